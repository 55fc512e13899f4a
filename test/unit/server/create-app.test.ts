import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { systemClock } from '../../../src/common/clock.ts';
import { type Authorize, authorizeByFile, type Verdict } from '../../../src/server/require-token.ts';
import { type HttpApp, startHttpApp, statusOf, storedRequest } from '../../helpers/http-app.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { createManualClock } from '../../helpers/manual-clock.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { createTestAuthority } from '../../helpers/test-authority.ts';
import { createTestClock } from '../../helpers/test-clock.ts';

/** The answer to bytes that no client of ours sends. */
async function sendRaw(port: number, text: string): Promise<string> {
  const socket = net.connect(port, '127.0.0.1');
  socket.end(text);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

const WAIT = { clock: systemClock, signal: NEVER };

describe('the app', function () {
  this.timeout(20_000);
  const temp = useTempDir();

  it('tells exports as JSON: a page of them, one, and the map of none', async () => {
    await using app = await startHttpApp();
    app.registry.onRead('vms/e', storedRequest('e', statusOf('Succeeded')));
    const page = (await (await app.get('/api/v1/exports?search=e')).json()) as Record<string, unknown>;
    assert.deepEqual([page.total, page.matched, page.version, (page.items as unknown[]).length], [1, 1, '1.2.3', 1]);
    assert.equal(((await (await app.get('/api/v1/exports/vms/e')).json()) as { phase: string }).phase, 'Succeeded');
    assert.equal((await app.get('/api/v1/exports/vms/x')).status, 404);
    assert.equal((await app.get('/api/v1/exports/vms/e/map?disk=a')).status, 204);
    const refused = await app.get('/api/v1/exports?limit=9999');
    assert.deepEqual([refused.status, await refused.text()], [400, 'limit: a whole number from 1 to 200\n']);
  });

  it('tells what has changed as it comes, and ends the stream when the server does', async () => {
    await using app = await startHttpApp();
    let text = '';
    const response = await app.get('/api/v1/changes');
    assert.equal(response.headers.get('content-type'), 'text/event-stream');
    const reading = (async () => {
      for await (const chunk of response.body as ReadableStream<Uint8Array>) text += Buffer.from(chunk).toString();
    })();
    while (!text.includes('connected')) await sleep(10);
    app.registry.onRead('vms/e', storedRequest('e', statusOf('Failed')));
    app.registry.onRead('vms/gone', storedRequest('gone'));
    app.registry.onRead('vms/gone', undefined);
    while (!text.includes('\n\nevent: changes')) await sleep(10);
    await app[Symbol.asyncDispose]();
    await reading;
    const changes = JSON.parse(/^data: (.*)$/m.exec(text)?.[1] ?? '') as Record<string, unknown>;
    assert.deepEqual([(changes.items as { name: string }[])[0]?.name, changes.removed, changes.isPartial], ['e', ['vms/gone'], false]);
  });

  it('has room for so many readers of changes, and for more when some have gone', async () => {
    await using app = await startHttpApp();
    const readers = await Promise.all(Array.from({ length: 32 }, () => app.get('/api/v1/changes')));
    assert.ok(readers.every(({ status }) => status === 200));
    const refused = await app.get('/api/v1/changes');
    assert.deepEqual([refused.status, refused.headers.get('retry-after')], [503, '10']);
    await readers[0]?.body?.cancel();
    while ((await app.get('/api/v1/changes', { method: 'GET' })).status !== 200) await sleep(20);
  });

  it('says with every answer what may be loaded, framed and kept, and nothing of what it is made of', async () => {
    await using app = await startHttpApp();
    for (const place of ['/', '/page/page.js', '/page/page.css', '/api/v1/exports', '/metrics', '/livez', '/nothing', '/%ff']) {
      const { headers } = await app.get(place);
      assert.match(headers.get('content-security-policy') ?? '', /^default-src 'none'; script-src 'self'; style-src 'self'/, place);
      assert.ok(!/unsafe|\*|data:/.test(headers.get('content-security-policy') ?? ''), place);
      assert.equal(headers.get('x-content-type-options'), 'nosniff');
      assert.equal(headers.get('cache-control'), 'no-store');
      assert.equal(headers.get('x-powered-by'), null);
    }
  });

  it('takes nothing: no other method, no body, no file that is not of the page', async () => {
    await using app = await startHttpApp();
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) assert.equal((await app.get('/metrics', { method })).status, 405, method);
    assert.equal((await app.get('/', { method: 'POST', body: 'x' })).status, 413);
    assert.equal((await app.get('/api/v1/changes', { method: 'HEAD' })).status, 200);
    for (const place of ['/page/page.html', '/page/..%2f..%2f..%2fpackage.json', '/page/export-row.ts', '/api/v1', '/api/v2/exports'])
      assert.equal((await app.get(place)).status, 404, place);
    assert.match(
      await sendRaw(app.port, 'GET /page/../../../../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
      /^HTTP\/1\.1 404/,
    );
    assert.match(await sendRaw(app.port, `GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(9000)}\r\n\r\n`), /^HTTP\/1\.1 431/);
    assert.match(await sendRaw(app.port, 'nonsense\r\n\r\n'), /^HTTP\/1\.1 400/);
  });

  it('answers a mistake of its own without a word of it, and logs it', async () => {
    const scrape = () => Promise.reject(new Error('pl4nted detail'));
    await using app = await startHttpApp({ metrics: { scrape } });
    const response = await app.get('/metrics');
    assert.deepEqual([response.status, await response.text()], [500, 'internal error\n']);
    assert.match(app.warnings.join(), /pl4nted detail/);
  });

  it('says to probes what is wrong', async () => {
    let problem: string | undefined;
    await using app = await startHttpApp({ problem: () => problem });
    const ask = async (place: string) => {
      const response = await app.get(place);
      return [response.status, await response.text()];
    };
    assert.deepEqual(
      [await ask('/livez'), await ask('/readyz')],
      [
        [200, 'ok: facts\n'],
        [200, 'ok\n'],
      ],
    );
    problem = 'the volume is away';
    assert.deepEqual(
      [await ask('/livez'), await ask('/readyz')],
      [
        [503, 'the volume is away: facts\n'],
        [503, 'the volume is away\n'],
      ],
    );
  });

  describe('with a token', () => {
    let app: HttpApp;
    const withToken = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });
    beforeEach(async () => {
      writeFileSync(temp('token'), 'first-token\n');
      app = await startHttpApp({ authorize: await authorizeByFile(temp('token'), WAIT) });
    });
    afterEach(() => app[Symbol.asyncDispose]());

    it('shows exports and metrics to clients with the token, and probes and the empty page to all', async () => {
      for (const place of ['/metrics', '/api/v1/exports', '/api/v1/changes', '/api/v1/exports/a/b', '/nothing']) {
        const refused = await app.get(place);
        assert.deepEqual([refused.status, refused.headers.get('www-authenticate')], [401, 'Bearer realm="disklift"'], place);
        assert.equal((await app.get(place, withToken('wrong'))).status, 401);
        assert.equal((await app.get(place, withToken(''))).status, 401);
      }
      assert.equal((await app.get('/metrics', withToken('first-token'))).status, 200);
      for (const place of ['/', '/livez', '/readyz']) assert.equal((await app.get(place)).status, 200, place);
    });

    it('accepts a new token at once, and no token while the file is empty', async () => {
      writeFileSync(temp('token'), 'second-token');
      assert.equal((await app.get('/metrics', withToken('first-token'))).status, 401);
      assert.equal((await app.get('/metrics', withToken('second-token'))).status, 200);
      writeFileSync(temp('token'), '');
      assert.equal((await app.get('/metrics', withToken('second-token'))).status, 401);
    });

    it('is not started without one', async () => {
      await assert.rejects(authorizeByFile(temp('none'), WAIT), { code: 'InvalidRequest' });
      writeFileSync(temp('token'), ' \n');
      await assert.rejects(authorizeByFile(temp('token'), WAIT), { code: 'InvalidRequest' });
    });
  });

  it('lets nobody in while it cannot be asked who somebody is', async () => {
    await using app = await startHttpApp({ authorize: () => Promise.reject(new Error('away')) });
    assert.equal((await app.get('/metrics', { headers: { Authorization: 'Bearer x' } })).status, 500);
  });

  it('shows metrics and exports to who may see them, and says why to others', async () => {
    const asked: string[] = [];
    let verdict: Verdict = 'allowed';
    const authorize: Authorize = async (token, subject) => {
      asked.push(`${token} ${subject}`);
      return verdict;
    };
    await using app = await startHttpApp({ authorize });
    const ask = async (place: string, authorization = 'Bearer x.y') => {
      const { status, headers } = await app.get(place, { headers: { authorization } });
      return [status, headers.get('www-authenticate'), headers.get('retry-after')];
    };
    for (const place of ['/metrics', '/METRICS', '/metrics/?x=y']) assert.equal((await ask(place))[0], 200, place);
    for (const place of ['/api/v1/exports', '/API/v1/exports/']) assert.equal((await ask(place))[0], 200, place);
    assert.equal((await ask('/api/v1/exports/a/b'))[0], 404);
    assert.deepEqual(asked, [...Array(3).fill('x.y metrics'), ...Array(3).fill('x.y exports')]);
    const challenge = 'Bearer realm="disklift"';
    const refusals: [Verdict, unknown[]][] = [
      ['unknown', [401, challenge, null]],
      ['forbidden', [403, `${challenge}, error="insufficient_scope"`, null]],
      ['unavailable', [503, null, '5']],
    ];
    for (const [refusal, answer] of refusals) {
      verdict = refusal;
      for (const place of ['/metrics', '/api/v1/exports', '/api/v1/changes', '/nothing']) assert.deepEqual(await ask(place), answer, place);
    }
    asked.length = 0;
    for (const authorization of ['Basic x.y', 'Bearer', 'Bearer x y', `Bearer ${'x'.repeat(4097)}`])
      assert.deepEqual(await ask('/metrics', authorization), [401, challenge, null], authorization.slice(0, 20));
    for (const place of ['/', '/livez', '/readyz']) assert.equal((await app.get(place)).status, 200, place);
    assert.deepEqual(asked, [], 'nothing is asked that needs no answer');
  });

  it('ends a stream of changes whose reader would not be let in any more', async () => {
    const verdicts: Record<string, Verdict> = { stays: 'allowed', leaves: 'allowed', stands: 'allowed' };
    const authorize: Authorize = async (token) => verdicts[token] ?? assert.fail();
    const clock = createManualClock();
    await using app = await startHttpApp({ authorize, changesClock: clock });
    const ended: string[] = [];
    const readings = Object.keys(verdicts).map(async (token) => {
      const response = await app.get('/api/v1/changes', { headers: { authorization: `Bearer ${token}` } });
      const reading = response.text().then(() => ended.push(token));
      return { reading };
    });
    const [stays, leaves, stands] = await Promise.all(readings);
    assert.ok(stays && leaves && stands);
    Object.assign(verdicts, { leaves: 'unknown', stands: 'unavailable' });
    const seconds = async (count: number) => {
      for (let second = 0; second < count; second += 1) {
        await clock.untilWaiting(1000);
        await clock.advance(1000);
      }
    };
    await seconds(30);
    assert.deepEqual(ended, [], 'nobody is asked about each second');
    await seconds(1);
    await Promise.all([leaves.reading, stands.reading]);
    await seconds(1);
    assert.deepEqual(ended.sort(), ['leaves', 'stands']);
    await app[Symbol.asyncDispose]();
    await clock.advance(1000);
    await stays.reading;
  });

  it('serves by HTTPS, takes a new certificate, and keeps the last that can be used', async () => {
    const authority = await createTestAuthority(temp('.'));
    const [first, second] = [await authority.issue('first', 'IP:127.0.0.1'), await authority.issue('second', 'IP:127.0.0.1')];
    const put = ({ certificate, key }: { certificate: string; key: string }) => {
      writeFileSync(temp('tls.crt'), certificate);
      writeFileSync(temp('tls.key'), key);
    };
    put(first);
    const steps: (() => void)[] = [];
    const clock = { ...createTestClock(), delay: () => new Promise<void>((resolve) => steps.push(resolve)) };
    const look = async () => {
      const next = steps.length + 1;
      steps.at(-1)?.();
      while (steps.length < next) await sleep(5);
    };
    const files = { certificateFile: temp('tls.crt'), keyFile: temp('tls.key') };
    await using app = await startHttpApp({ tls: files, clock });
    const nameOfPeer = async () => {
      const socket = tls.connect({ port: app.port, host: '127.0.0.1', ca: readFileSync(temp('ca.pem')) });
      await new Promise<void>((resolve, reject) => {
        socket.once('secureConnect', resolve);
        socket.once('error', reject);
      });
      const name = socket.getPeerCertificate().subject.CN;
      socket.destroy();
      return name;
    };
    assert.equal(await nameOfPeer(), 'first');
    put(second);
    await look();
    assert.equal(await nameOfPeer(), 'second');
    writeFileSync(temp('tls.key'), first.key);
    await look();
    await look();
    assert.equal(await nameOfPeer(), 'second');
    assert.equal(app.warnings.length, 1, 'once');
    assert.match(app.warnings[0] ?? '', /cannot be used for HTTPS/);
    await assert.rejects(startHttpApp({ tls: files }), { code: 'InvalidRequest' });
  });

  it('answers what was asked for before it ends', async () => {
    let answer = () => {};
    const scrape = () =>
      new Promise<{ contentType: string; text: string }>((resolve) => {
        answer = () => resolve({ contentType: 'text/plain', text: 'late' });
      });
    const app = await startHttpApp({ metrics: { scrape } });
    const asked = app.get('/metrics');
    await sleep(100);
    const closing = app[Symbol.asyncDispose]();
    answer();
    assert.equal(await (await asked).text(), 'late');
    await closing;
  });
});
