/** `disklift sidecar --requests DIR`: exports of new manifests, their status files, metrics, and clean ends. */

import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { createLongPaths } from '../helpers/long-paths.ts';
import { credentialsSecret, diskExport } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { apply, type Sidecar, type SidecarOptions, startSidecar, statusOf, waitForStatus } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { startStallingSink } from '../helpers/stalling-sink.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;
const CLUSTER = 65_536;

describe('disklift sidecar', function () {
  this.timeout(60_000);
  const temp = useTempDir();
  let requests: string;
  beforeEach(async () => {
    requests = temp('requests');
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 16 * MIB, [
      { offsetBytes: MIB, lengthBytes: 5 * MIB, content: 'random' },
      { offsetBytes: 8 * MIB, lengthBytes: 2 * MIB, content: 'zeros' },
    ]);
  });

  /** Larger than the buffers of a connection. */
  async function enlargeDisk(): Promise<void> {
    await createDisk(temp('volume/disk.img'), 64 * MIB, [{ offsetBytes: MIB, lengthBytes: 48 * MIB, content: 'random' }]);
  }

  const start = (options: Partial<SidecarOptions> = {}): Promise<Sidecar> =>
    startSidecar({ requests, volumes: [`claim=${temp('volume')}`], ...options });

  async function assertArrived(sink: HttpSink, place: string): Promise<void> {
    await writeFile(temp('arrived.qcow2'), sink.complete.get(place) ?? assert.fail(`nothing at ${place}`));
    await assertImageOf(temp('arrived.qcow2'), temp('volume/disk.img'));
  }

  it('runs requests that exist at its start and later ones, writes each status beside its request, and counts clusters', async () => {
    await using sink = await startHttpSink();
    await mkdir(requests);
    await apply(requests, diskExport('before', { http: { url: `${sink.url}/{name}` } }));
    await using sidecar = await start();
    await apply(requests, diskExport('after', { http: { url: `${sink.url}/{name}` } }));
    for (const name of ['before', 'after']) {
      const status = await waitForStatus(requests, name);
      assert.deepEqual([status.phase, status.progress?.percent, status.destination], ['Succeeded', 100, 'HTTP'], status.message);
      await assertArrived(sink, `/${name}`);
    }
    const metrics = await sidecar.metrics();
    const series = (name: string, more = '') =>
      metrics.get(`disklift_${name}{export_namespace="vms",export="before",disk="disk.img"${more}}`);
    const clusters = statusOf(requests, 'before')?.disks?.[0]?.clusters;
    assert.deepEqual(clusters, { total: 256, scanned: 256, skipped: 176, written: 80 });
    assert.equal(series('scanned_clusters_total'), 256);
    assert.equal(series('skipped_clusters_total', ',reason="zero"'), (2 * MIB) / CLUSTER);
    assert.equal(series('skipped_clusters_total', ',reason="hole"'), 176 - 32);
    assert.equal(series('written_clusters_total', ',kind="data"'), 80);
    assert.equal(metrics.get('disklift_exports_total{destination="HTTP",result="Succeeded"}'), 2);
    assert.equal(metrics.get('disklift_exports_active'), 0);
    assert.match((await sidecar.get('/metrics')).headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
    assert.deepEqual(
      [(await sidecar.get('/livez')).status, (await sidecar.get('/readyz')).status, (await sidecar.get('/x')).status],
      [200, 200, 404],
    );
    assert.equal(await sidecar.stop(), 0);
  });

  it('records the end of 64 disks with long paths, and runs them once', async () => {
    const paths = await createLongPaths(temp('volume'));
    const source = { persistentVolumeClaim: { claimName: 'claim' }, disks: paths.map((path) => ({ path })) };
    await using sink = await startHttpSink({ onExpect: (_request, response) => void response.writeHead(403).end() });
    await using _sidecar = await start();
    await apply(requests, diskExport('long', { http: { url: `${sink.url}/{disk}` } }, { source, backoffLimit: 0 }));
    const { phase, message, disks } = await waitForStatus(requests, 'long');
    assert.deepEqual([phase, disks?.length], ['Failed', 64]);
    assert.match(message ?? '', /and 54 more\)$/);
    await sleep(3000);
    assert.equal(sink.requests.length, 64);
  });

  it('refuses a disk whose path is too long for the status', async () => {
    const file = ['volume', ...['a', 'b', 'c', 'd', 'e'].map((character) => character.repeat(240))].join('/');
    await mkdir(path.dirname(temp(file)), { recursive: true });
    await writeFile(temp(file), '');
    await using _sidecar = await start();
    const source = { persistentVolumeClaim: { claimName: 'claim' }, disks: [{ path: '*/*/*/*/*' }] };
    await apply(requests, diskExport('too-long', { http: { url: 'http://127.0.0.1:9/x' } }, { source }));
    const { phase, message } = await waitForStatus(requests, 'too-long');
    assert.equal(phase, 'Failed');
    assert.match(message ?? '', /^a+…: the path has more than 1024 characters; move the disk to a shorter one$/);
  });

  it('runs at most --max-concurrent-exports at a time, in the order of the requests', async () => {
    await using sink = await startStallingSink();
    await using _sidecar = await start({ flags: ['--max-concurrent-exports', '2'] });
    for (const name of ['e1', 'e2', 'e3']) {
      await apply(requests, diskExport(name, { http: { url: `${sink.url}/${name}` } }));
      // Files of the same age have no order.
      await sleep(30);
    }
    await sink.begun(2);
    await sleep(2500);
    assert.equal(sink.requests.length, 2);
    assert.deepEqual(sink.requests.map(({ url }) => url).sort(), ['/e1', '/e2']);
    sink.goOn();
    for (const name of ['e1', 'e2', 'e3']) assert.equal((await waitForStatus(requests, name)).phase, 'Succeeded');
  });

  it('ends a cancelled export within about a second, also one that waits for a slot', async () => {
    await using sink = await startStallingSink();
    await using _sidecar = await start({ flags: ['--max-concurrent-exports', '1'] });
    const manifests = ['e1', 'e2'].map((name) => diskExport(name, { http: { url: `${sink.url}/${name}` } }));
    for (const manifest of manifests) await apply(requests, manifest);
    await sink.begun(1);
    for (const manifest of manifests) await apply(requests, { ...manifest, spec: { ...manifest.spec, cancel: true } });
    for (const name of ['e1', 'e2']) {
      const status = await waitForStatus(requests, name);
      assert.equal(status.phase, 'Cancelled');
      assert.deepEqual(status.conditions?.find(({ type }) => type === 'Succeeded')?.reason, 'Cancelled');
    }
    assert.equal(sink.complete.size, 0);
  });

  it('ends an export whose manifest is deleted, and removes its status', async () => {
    await enlargeDisk();
    await using sink = await startStallingSink();
    await using _sidecar = await start();
    const file = await apply(requests, diskExport('gone', { http: { url: `${sink.url}/gone` } }));
    await sink.begun(1);
    await waitForStatus(requests, 'gone', ({ phase }) => phase === 'Streaming');
    await rm(file);
    for (let waitedMs = 0; existsSync(`${requests}/gone.status.yaml`); waitedMs += 50) {
      assert.ok(waitedMs < 10_000, 'the status is still there');
      await sleep(50);
    }
    sink.goOn();
    await sleep(200);
    assert.equal(sink.complete.size, 0);
  });

  it('does not run a finished export again after a restart', async () => {
    await using sink = await startHttpSink();
    await using first = await start();
    await apply(requests, diskExport('once', { http: { url: `${sink.url}/once` } }));
    const status = await waitForStatus(requests, 'once');
    await first.stop();
    await using _second = await start();
    await sleep(2500);
    assert.deepEqual([statusOf(requests, 'once'), sink.requests.length], [status, 1]);
  });

  it('exits at once on SIGTERM, and resumes the export after a restart', async () => {
    await enlargeDisk();
    await using sink = await startStallingSink();
    await using first = await start();
    await apply(requests, diskExport('long', { http: { url: `${sink.url}/long` } }));
    await sink.begun(1);
    const startMs = performance.now();
    assert.equal(await first.stop(), 0);
    assert.ok(performance.now() - startMs < 3000);
    const left = statusOf(requests, 'long');
    assert.deepEqual([left?.phase, left?.attempts, left?.completionTime], ['Pending', 0, undefined]);
    sink.goOn();
    await using _second = await start();
    const status = await waitForStatus(requests, 'long');
    assert.deepEqual([status.phase, status.attempts, status.startTime], ['Succeeded', 1, left?.startTime]);
    await assertArrived(sink, '/long');
  });

  it('resumes an export after SIGKILL without counting that attempt', async () => {
    await enlargeDisk();
    await using sink = await startStallingSink();
    await using first = await start();
    await apply(requests, diskExport('long', { http: { url: `${sink.url}/long` } }, { backoffLimit: 0 }));
    await sink.begun(1);
    await waitForStatus(requests, 'long', ({ phase }) => phase === 'Streaming');
    await first.stop('SIGKILL');
    sink.goOn();
    await using _second = await start();
    const status = await waitForStatus(requests, 'long');
    assert.deepEqual([status.phase, status.attempts], ['Succeeded', 1]);
    await assertArrived(sink, '/long');
  });

  it('removes the manifest and the status of a finished export when its TTL has passed', async () => {
    await using sink = await startHttpSink();
    await using _sidecar = await start();
    await apply(requests, diskExport('brief', { http: { url: `${sink.url}/brief` } }, { ttlSecondsAfterFinished: 2 }));
    await waitForStatus(requests, 'brief');
    for (let waitedMs = 0; readdirSync(requests).some((name) => name.startsWith('brief')); waitedMs += 50) {
      assert.ok(waitedMs < 10_000, 'it is still there');
      await sleep(50);
    }
    await assertArrived(sink, '/brief');
  });

  it('fails an export when its deadline has passed', async () => {
    await using sink = await startStallingSink();
    await using _sidecar = await start();
    await apply(requests, diskExport('slow', { http: { url: `${sink.url}/slow` } }, { activeDeadlineSeconds: 2 }));
    const status = await waitForStatus(requests, 'slow');
    assert.deepEqual([status.phase, status.disks?.[0]?.reason], ['Failed', 'DeadlineExceeded']);
  });

  it('reports the errors of a manifest, and runs it when they are corrected', async () => {
    await using sink = await startHttpSink();
    await using _sidecar = await start();
    const right = diskExport('typo', { http: { url: `${sink.url}/typo` } });
    await apply(requests, { ...right, spec: { ...right.spec, chekcsum: 'None' } });
    const status = await waitForStatus(requests, 'typo');
    assert.equal(status.phase, 'Failed');
    assert.deepEqual(status.conditions?.find(({ type }) => type === 'Succeeded')?.reason, 'InvalidRequest');
    assert.match(status.message ?? '', /chekcsum/);
    await apply(requests, right);
    await waitForStatus(requests, 'typo', ({ phase }) => phase === 'Succeeded');
    await assertArrived(sink, '/typo');
  });

  it('survives manifests that are written byte by byte, edited or malformed', async () => {
    await using sink = await startHttpSink();
    await using sidecar = await start();
    await writeFile(`${requests}/nonsense.yaml`, '{{{{');
    await writeFile(`${requests}/empty.yaml`, '');
    const whole = diskExport('slowly', { http: { url: `${sink.url}/slowly` } }, { backoffLimit: 123 });
    const file = await apply(temp('.'), whole);
    const text = await readFile(file);
    for (let end = 0; end <= text.length; end += 40) {
      await writeFile(`${requests}/slowly.yaml`, text.subarray(0, end));
      await sleep(20);
    }
    await writeFile(`${requests}/slowly.yaml`, text);
    assert.equal((await waitForStatus(requests, 'slowly')).phase, 'Succeeded');
    assert.equal(sink.requests.length, 1);
    await apply(requests, { ...whole, spec: { ...whole.spec, backoffLimit: 1 } });
    await sleep(3000);
    assert.equal(sink.requests.length, 1);
    assert.equal(sidecar.process.exitCode, null);
  });

  it('sends nothing to destinations that the policy does not allow', async () => {
    await using sink = await startHttpSink();
    await using _sidecar = await start({ flags: ['--deny-destination', '127.0.0.1'] });
    await apply(requests, diskExport('in', { http: { url: `${sink.url}/in` } }));
    await apply(requests, diskExport('metadata', { http: { url: 'http://169.254.169.254/x' } }));
    for (const name of ['in', 'metadata']) {
      const status = await waitForStatus(requests, name);
      assert.deepEqual([status.phase, status.disks?.[0]?.reason], ['Failed', 'DestinationNotAllowed']);
    }
    assert.equal(sink.requests.length, 0);
  });

  it('sends a secret to its destination only', async () => {
    const secrets = { password: 'pl4nted-password', token: 'pl4nted-token', query: 'pl4nted-query' };
    await using sink = await startHttpSink({ onExpect: (_request, response) => void response.writeHead(500, 'no').end('pl4in words') });
    await using sidecar = await start({ flags: ['--log-level', 'debug'] });
    const url = sink.url.replace('//', `//user:${secrets.password}@`);
    const headers = credentialsSecret('headers', { Authorization: `Bearer ${secrets.token}`, 'X-Token': secrets.token });
    const address = credentialsSecret('address', { url: `${url}/x?signature=${secrets.query}` });
    const destination = { http: { urlSecretRef: { name: 'address', key: 'url' }, headersSecretRef: { name: 'headers' } } };
    const source = { persistentVolumeClaim: { claimName: 'claim' }, disks: [{ path: 'disk.img' }] };
    await apply(requests, diskExport('secret', destination, { source, backoffLimit: 1 }), headers, address);
    const bad = credentialsSecret('bad', { Authorization: `two\nlines ${secrets.token}` });
    await apply(requests, diskExport('bad', { http: { url: `${sink.url}/y`, headersSecretRef: { name: 'bad' } } }, { source }), bad);
    for (const name of ['secret', 'bad']) assert.equal((await waitForStatus(requests, name)).phase, 'Failed');
    assert.ok(
      sink.requests.some(({ headers: { authorization } }) => authorization !== undefined),
      'they were sent where they belong',
    );
    const told = [
      sidecar.output(),
      await (await sidecar.get('/metrics')).text(),
      ...(await Promise.all(['secret', 'bad'].map((name) => readFile(`${requests}/${name}.status.yaml`, 'utf8')))),
    ].join('\n');
    assert.ok(!told.includes('pl4nted'), told.slice(Math.max(0, told.indexOf('pl4nted') - 200), told.indexOf('pl4nted') + 50));
  });

  it('refuses contradictory settings in one line', async () => {
    for (const flags of [
      ['--listen-port', 'x'],
      ['--allow-destination', '10.0.0.0/99'],
      ['--volume', 'x'],
    ])
      await assert.rejects(start({ flags }), /disklift: [^\n]+\n$/);
  });
});
