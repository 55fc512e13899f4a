/** The status page in a real browser: it shows the exports of a real sidecar, and no text of them does harm. */

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import type http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPage, readMap, useBrowser } from '../helpers/browser.ts';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { diskExport } from '../helpers/manifest.ts';
import { apply, type Sidecar, startSidecar, waitForStatus } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';

const MIB = 1024 * 1024;
const HOSTILE = '"><img src=x onerror=alert(1)>.img';

/** Reads 16 MiB of each body, and the rest after `goOn`. */
async function startPacedSink(): Promise<HttpSink & { goOn(): void }> {
  let isOpen = false;
  const waiting: (() => void)[] = [];
  const sink: HttpSink = await startHttpSink({
    onRequest(request: http.IncomingMessage, response: http.ServerResponse) {
      let taken = 0;
      request.on('data', (chunk: Buffer) => {
        taken += chunk.length;
        if (isOpen || taken < 16 * MIB) return;
        request.pause();
        waiting.push(() => request.resume());
      });
      request.on('end', () => response.writeHead(201).end());
      request.on('error', () => {});
    },
  });
  return {
    ...sink,
    goOn() {
      isOpen = true;
      for (const resume of waiting.splice(0)) resume();
    },
  };
}

describe('the status page of a sidecar', function () {
  this.timeout(60_000);
  const temp = useTempDir();
  const browser = useBrowser();
  let sidecar: Sidecar;
  let requests: string;
  let url: string;
  beforeEach(async () => {
    requests = temp('requests');
    await mkdir(temp('volume'));
    await mkdir(temp('hostile'));
    await createDisk(temp('volume/disk.img'), 96 * MIB, [
      { offsetBytes: MIB, lengthBytes: 40 * MIB, content: 'random' },
      { offsetBytes: 50 * MIB, lengthBytes: 6 * MIB, content: 'zeros' },
      { offsetBytes: 64 * MIB, lengthBytes: 20 * MIB, content: 'random' },
    ]);
    await createDisk(temp(`hostile/${HOSTILE}`), MIB, [{ offsetBytes: 0, lengthBytes: 65_536, content: 'random' }]);
    sidecar = await startSidecar({ requests, volumes: [`claim=${temp('volume')}`, `hostile=${temp('hostile')}`] });
    url = `http://127.0.0.1:${sidecar.log().find(({ msg }) => msg === 'sidecar runs')?.port}/`;
  });
  afterEach(() => sidecar[Symbol.asyncDispose]());

  /** `letters` for so many MiB each, 16 clusters a MiB, with every data cell as `data`. */
  const EXPECTED = [
    [1, 'h'],
    [40, 'd'],
    [9, 'h'],
    [6, 'z'],
    [8, 'h'],
    [20, 'd'],
    [12, 'h'],
  ] as const;
  const expected = EXPECTED.map(([mib, letter]) => letter.repeat(16 * mib)).join('');

  it('shows the progress of an export until its end, with the map of its disk', async () => {
    await using sink = await startPacedSink();
    await using shown = await openPage(browser(), url);
    const { page, complaints } = shown;
    await page.getByText('There are no exports yet.').waitFor();
    await apply(requests, diskExport('nightly', { http: { url: `${sink.url}/{disk}` } }));
    await page.getByRole('button', { name: 'nightly' }).waitFor();
    await page.getByText('Sending', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'nightly' }).click();
    await page.getByRole('img', { name: /^Map of disk\.img: 63 % of the disk is data/ }).waitFor();
    await page.waitForFunction("Number(document.querySelector('.map canvas').dataset.sentUntilCluster) > 16 * 16");
    const [middle, bar] = [await readMap(page), await page.getByRole('progressbar').getAttribute('value')];
    assert.equal(middle.replaceAll('s', 'd'), expected, 'what the disk holds');
    assert.match(middle, /^h{16}s+d+h[^s]+$/, 'sent in the order of the disk, up to one place');
    assert.ok(Number(bar) > 20 && Number(bar) < 90, `${bar} %`);
    sink.goOn();
    await page.getByText('Arrived', { exact: true }).waitFor();
    await page.getByText('SHA-256').waitFor();
    assert.equal(await page.getByRole('progressbar').getAttribute('value'), '100');
    assert.equal(await readMap(page), expected.replaceAll('d', 's'));
    const status = await waitForStatus(requests, 'nightly');
    await page.getByText(status.disks?.[0]?.sha256 ?? '?').waitFor();
    assert.deepEqual(complaints, []);
  });

  it('explains a failure, and shows the names of servers and disks as text, never as markup', async () => {
    const words = '<script>alert(2)</script><b id="harm">bold</b>';
    await using sink = await startHttpSink({ onExpect: (_request, response) => void response.writeHead(403).end(words) });
    await using shown = await openPage(browser(), url);
    const { page, complaints } = shown;
    const source = { persistentVolumeClaim: { claimName: 'hostile' } };
    await apply(requests, diskExport('refused', { http: { url: `${sink.url}/{disk}` } }, { source, backoffLimit: 0 }));
    const status = await waitForStatus(requests, 'refused');
    assert.equal(status.disks?.[0]?.path, HOSTILE);
    await page.getByRole('button', { name: 'refused' }).click();
    const failure = page.locator('.disk .failure');
    await failure.getByText('CredentialsInvalid').waitFor();
    await failure.getByText('answered 403').waitFor();
    await failure.getByText('Check the Secret').waitFor();
    await page.getByRole('heading', { name: HOSTILE }).waitFor();
    await page.getByRole('img', { name: `Map of ${HOSTILE}` }).waitFor();
    await sleep(200);
    assert.equal(await page.locator('#harm, script:not([src]), .exports img').count(), 0);
    assert.deepEqual(complaints, []);
  });

  it('says when the next attempt begins and that an export is unclaimed, shows a failure once, and names where it goes', async () => {
    await using sink = await startHttpSink({
      onExpect: (_request, response) => void response.writeHead(503, { 'retry-after': '500' }).end(),
    });
    await using shown = await openPage(browser(), url);
    const { page, complaints } = shown;
    const elsewhere = { source: { persistentVolumeClaim: { claimName: 'elsewhere' } } };
    await apply(requests, diskExport('again', { http: { url: `${sink.url}/{namespace}/{name}/{disk}` } }));
    await apply(requests, diskExport('nobodys', { http: { url: `${sink.url}/x` } }, elsewhere));
    await page.getByText('Unclaimed', { exact: true }).waitFor();
    const state = page.getByText(/^Retrying in \d+ (min \d+ )?s$/);
    await state.waitFor();
    const first = await state.textContent();
    await until('the next second', async () => (await state.textContent()) !== first);
    await page.getByText(`HTTP ${sink.url}/vms/again/disk`, { exact: true }).waitFor();
    const row = page.getByRole('listitem').filter({ has: page.getByRole('button', { name: 'again' }) });
    if ((await row.locator('.disk').count()) === 0) await page.getByRole('button', { name: 'again' }).click();
    await row.locator('.disk .failure').getByText('answered 503').waitFor();
    assert.equal(await row.getByText('answered 503').filter({ visible: true }).count(), 1);
    await page.getByRole('button', { name: 'nobodys' }).click();
    await page
      .getByText(/^no process serves the claim elsewhere; /)
      .filter({ visible: true })
      .waitFor();
    assert.deepEqual(complaints, []);
  });

  it('reconnects when the sidecar is back', async () => {
    await using shown = await openPage(browser(), url);
    const { page } = shown;
    await page.getByText('live', { exact: true }).waitFor();
    const { port } = new URL(url);
    await sidecar.stop();
    await page.getByText('connection lost, trying again').waitFor();
    sidecar = await startSidecar({ requests, volumes: [`claim=${temp('volume')}`], flags: ['--listen-port', port] });
    await page.getByText('live', { exact: true }).waitFor();
  });
});
