/**
 * The status page for all users: thousands of exports, phones, dark mode, keyboards and screen readers, hostile names,
 * tokens.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Verdict } from '../../src/server/require-token.ts';
import { openPage, useBrowser } from '../helpers/browser.ts';
import { showExports } from '../helpers/exports-on-show.ts';
import { type HttpApp, startHttpApp, statusOf, storedRequest } from '../helpers/http-app.ts';
import { until } from '../helpers/until.ts';

const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true };

describe('the status page', function () {
  this.timeout(60_000);
  const browser = useBrowser();
  let app: HttpApp;
  beforeEach(async () => {
    app = await startHttpApp();
  });
  afterEach(() => app[Symbol.asyncDispose]());

  for (const [where, options] of Object.entries({
    'on a desk': {},
    'in the dark': { colorScheme: 'dark' as const },
    'on a phone': PHONE,
    'on a phone in the dark': { ...PHONE, colorScheme: 'dark' as const },
  }))
    it(`breaks no rule of accessibility and fits, ${where}`, async () => {
      showExports(app.registry);
      await using shown = await openPage(browser(), app.url, options);
      const { page, complaints } = shown;
      await page.getByRole('img', { name: /^Map of disk\.img/ }).waitFor();
      await page.getByRole('button', { name: 'postgres-archive' }).click();
      await page.locator('.failure:visible').first().waitFor();
      assert.deepEqual(await shown.accessibilityProblems(), []);
      assert.ok(
        await page.evaluate<boolean>('document.documentElement.scrollWidth <= document.documentElement.clientWidth'),
        'nothing lies outside',
      );
      assert.deepEqual(complaints, []);
    });

  it('shows thousands of exports', async () => {
    for (let index = 0; index < 5000; index += 1) {
      const phase = index % 1000 === 7 ? 'Failed' : 'Succeeded';
      app.registry.onRead(`vms/vm-${index}`, storedRequest(`vm-${index}`, statusOf(phase, { message: `message ${index}` })));
    }
    const startMs = performance.now();
    await using shown = await openPage(browser(), app.url);
    const { page, complaints } = shown;
    await page.getByText('1 to 50 of 5,000').waitFor();
    assert.ok(performance.now() - startMs < 5000, `${performance.now() - startMs} ms`);
    assert.equal(await page.locator('.export').count(), 50);
    await page.getByRole('button', { name: 'Next' }).click();
    await page.getByText('51 to 100 of 5,000').waitFor();
    await page.getByRole('button', { name: 'Failed 5' }).click();
    await page.getByRole('button', { name: 'vm-4007' }).waitFor();
    assert.equal(await page.locator('.export').count(), 5);
    await page.getByRole('searchbox', { name: 'Search exports' }).fill('vm-2007');
    await page.getByRole('button', { name: 'vm-4007' }).waitFor({ state: 'detached' });
    assert.equal(await page.locator('.export').count(), 1);
    assert.equal(new URL(page.url()).search, '?show=failed&search=vm-2007');
    await page.reload();
    await page.getByRole('button', { name: 'vm-2007' }).waitFor();
    assert.equal(await page.locator('.export').count(), 1, 'what was looked for is in the address');
    await page.getByRole('searchbox').fill('nothing like that');
    await page.getByText('No exports match.').waitFor();
    assert.deepEqual(complaints, []);
  });

  it('sends no extra requests when an export of another page changes', async () => {
    showExports(app.registry);
    await using shown = await openPage(browser(), `${app.url}/?show=failed`);
    const { page } = shown;
    await page.getByText('live', { exact: true }).waitFor();
    let questions = 0;
    page.on('request', (request) => {
      if (request.url().includes('/exports?')) questions += 1;
    });
    // Each of these changes could make the page send a request.
    await page.waitForTimeout(5000);
    assert.ok(questions <= 2, `${questions} questions`);
  });

  it('can be used by keyboard, and keeps the focus while exports change', async () => {
    const { goOn } = showExports(app.registry);
    await using shown = await openPage(browser(), app.url);
    const { page } = shown;
    const toggle = page.getByRole('button', { name: 'mail-gateway' });
    await toggle.waitFor();
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate('document.activeElement.textContent'), 'Skip to the exports');
    await page.keyboard.press('Enter');
    const focused = () => page.evaluate<string>('document.activeElement.textContent');
    for (let presses = 0; (await focused()) !== 'mail-gateway'; presses += 1) {
      assert.ok(presses < 20, 'it is reached');
      await page.keyboard.press('Tab');
    }
    await page.keyboard.press('Enter');
    assert.equal(await toggle.getAttribute('aria-expanded'), 'true');
    await page.getByText('a'.repeat(64)).waitFor();
    // Another order of the list, and changes of running exports.
    app.registry.onRead('vms/another', storedRequest('another', statusOf('Streaming')));
    goOn(0.7);
    await page.getByRole('button', { name: 'another' }).waitFor();
    assert.equal(await focused(), 'mail-gateway');
    assert.equal(await toggle.getAttribute('aria-expanded'), 'true');
  });

  it('announces the end of an export to a screen reader', async () => {
    app.registry.onRead('vms/nightly', storedRequest('nightly', statusOf('Streaming')));
    await using shown = await openPage(browser(), app.url);
    await shown.page.getByRole('button', { name: 'nightly' }).waitFor();
    await shown.page.getByText('live', { exact: true }).waitFor();
    app.registry.onRead('vms/nightly', storedRequest('nightly', statusOf('Succeeded')));
    await shown.page.getByRole('status').getByText('nightly: Arrived').waitFor();
  });

  it('shows every name and message as text, never as markup', async () => {
    const hostile = '</button><img src=//elsewhere.example/x onerror=alert(1)><script>alert(2)</script><style>*{display:none}</style>';
    const stored = storedRequest(
      'e',
      statusOf('Failed', {
        message: hostile,
        disks: [{ path: hostile, phase: 'Failed', reason: hostile, message: hostile, location: 'javascript:alert(3)' }],
      }),
    );
    assert.ok(stored.kind === 'request');
    stored.request.spec.source.persistentVolumeClaim = { claimName: hostile };
    app.registry.onRead(`${hostile.replaceAll('/', '_')}/${hostile.replaceAll('/', '_')}`, stored);
    app.registry.onRead('__proto__/constructor', storedRequest('e'));
    app.registry.onRead('vms/long', storedRequest('long', statusOf('Failed', { message: 'x'.repeat(20_000) })));
    await using shown = await openPage(browser(), app.url, PHONE);
    const { page, complaints } = shown;
    await page.getByRole('button', { name: 'alert(1)' }).click();
    await page.locator('.disk h3').getByText(hostile).waitFor();
    await page.getByRole('button', { name: 'constructor' }).waitFor();
    assert.equal(await page.locator('.exports :is(img, script, style, a, iframe)').count(), 0);
    assert.ok(await page.evaluate<boolean>('document.documentElement.scrollWidth <= document.documentElement.clientWidth'));
    // The policy stops a page that tries.
    await assert.rejects(page.evaluate("document.body.innerHTML = '<b>x</b>'"), /TrustedHTML/);
    assert.deepEqual(
      complaints.filter((text) => !text.includes('TrustedHTML')),
      [],
    );
  });

  it('works below a path prefix, as kubectl proxy serves it', async () => {
    showExports(app.registry);
    const prefix = '/api/v1/namespaces/vms/pods/backup:9474/proxy';
    const proxy = http.createServer((request, response) => {
      const place = request.url?.startsWith(`${prefix}/`) ? request.url.slice(prefix.length) : '/not-there';
      http.get(`${app.url}${place}`, (answer) => {
        response.writeHead(answer.statusCode ?? 0, answer.headers);
        answer.pipe(response);
      });
    });
    proxy.listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    try {
      const { port } = proxy.address() as AddressInfo;
      await using shown = await openPage(browser(), `http://127.0.0.1:${port}${prefix}/`);
      await shown.page.getByText('live', { exact: true }).waitFor();
      await shown.page.getByRole('img', { name: /^Map of disk\.img/ }).waitFor();
      assert.deepEqual(shown.complaints, []);
    } finally {
      proxy.closeAllConnections();
      proxy.close();
    }
  });

  it('asks for a token where one is needed, and keeps it for the tab', async () => {
    const verdicts: Record<string, Verdict> = { right: 'allowed', another: 'forbidden' };
    await using guarded = await startHttpApp({ authorize: async (token) => verdicts[token] ?? 'unknown' });
    showExports(guarded.registry);
    await using shown = await openPage(browser(), guarded.url);
    const { page } = shown;
    const field = page.getByLabel('Bearer token');
    // A valid token without the right to see the exports.
    await field.fill('another');
    await page.getByRole('button', { name: 'Show the exports' }).click();
    await page.getByText('That token was not accepted.').waitFor();
    assert.deepEqual(await shown.accessibilityProblems(), []);
    await field.fill('right');
    await page.getByRole('button', { name: 'Show the exports' }).click();
    await page.getByRole('button', { name: 'fedora-nightly' }).waitFor();
    await page.reload();
    await page.getByRole('button', { name: 'fedora-nightly' }).waitFor();
  });

  it('reads changes by one connection, also after a token was renewed', async () => {
    const verdicts: Record<string, Verdict> = { first: 'allowed', second: 'allowed' };
    await using guarded = await startHttpApp({ authorize: async (token) => verdicts[token] ?? 'unknown' });
    showExports(guarded.registry);
    await using shown = await openPage(browser(), guarded.url);
    const { page } = shown;
    const open = new Set<unknown>();
    page.on('request', (request) => request.url().endsWith('/api/v1/changes') && open.add(request));
    page.on('requestfinished', (request) => void open.delete(request));
    page.on('requestfailed', (request) => void open.delete(request));
    const login = async (token: string) => {
      await page.getByLabel('Bearer token').fill(token);
      await page.getByRole('button', { name: 'Show the exports' }).click();
      await page.getByLabel('Bearer token').waitFor({ state: 'hidden' });
      await page.getByText('live', { exact: true }).waitFor();
    };
    await login('first');
    verdicts.first = 'unknown';
    // The connection stays open; a new request is refused.
    await page.getByRole('searchbox', { name: 'Search exports' }).fill('fedora');
    await page.getByLabel('Bearer token').waitFor();
    await login('second');
    await page.getByRole('button', { name: 'fedora-nightly' }).waitFor();
    await until('one connection', () => open.size === 1);
  });
});
