/** The HTTP server of a sidecar with its settings, and its log. */

import assert from 'node:assert/strict';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import https from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { disklift } from '../helpers/disklift.ts';
import { startFakeApiServer } from '../helpers/fake-api-server.ts';
import { startHttpSink } from '../helpers/http-sink.ts';
import { diskExport } from '../helpers/manifest.ts';
import { apply, type Sidecar, startSidecar, waitForStatus } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { createTestAuthority } from '../helpers/test-authority.ts';

const MIB = 1024 * 1024;

describe('the HTTP server of a sidecar', function () {
  this.timeout(60_000);
  const temp = useTempDir();
  let requests: string;
  beforeEach(async () => {
    requests = temp('requests');
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 4 * MIB, [{ offsetBytes: MIB, lengthBytes: MIB, content: 'random' }]);
  });

  const start = (...flags: string[]): Promise<Sidecar> => startSidecar({ requests, volumes: [`claim=${temp('volume')}`], flags });

  it('serves HTTPS to clients that have the token', async () => {
    const authority = await createTestAuthority(temp('.'));
    const { certificate, key } = await authority.issue('sidecar', 'IP:127.0.0.1');
    await Promise.all([writeFile(temp('tls.crt'), certificate), writeFile(temp('tls.key'), key), writeFile(temp('token'), 'a-token')]);
    const files = [
      '--listen-certificate-file',
      temp('tls.crt'),
      '--listen-key-file',
      temp('tls.key'),
      '--listen-token-file',
      temp('token'),
    ];
    await using sidecar = await start(...files);
    const port = sidecar.log().find(({ msg }) => msg === 'sidecar runs')?.port as number;
    const statusFor = (path: string, headers: Record<string, string>) =>
      new Promise<number | undefined>((resolve, reject) => {
        const request = https.get({ host: '127.0.0.1', port, path, headers, ca: authority.ca, agent: false }, (response) => {
          response.resume();
          resolve(response.statusCode);
        });
        request.on('error', reject);
      });
    assert.deepEqual([await statusFor('/livez', {}), await statusFor('/metrics', {})], [200, 401]);
    assert.equal(await statusFor('/metrics', { Authorization: 'Bearer a-token' }), 200);
    await assert.rejects(sidecar.get('/livez'), 'plain HTTP is not answered');
  });

  it('reports that it is not ready while a volume is missing', async () => {
    await using sidecar = await start();
    const waitForReadiness = async (status: number, text: string) => {
      for (let response = await sidecar.get('/readyz'); response.status !== status; response = await sidecar.get('/readyz'))
        await sleep(50);
      assert.equal(await (await sidecar.get('/readyz')).text(), text);
    };
    await waitForReadiness(200, 'ok\n');
    await rename(temp('volume'), temp('elsewhere'));
    await waitForReadiness(503, 'the volume of claim claim cannot be opened: ENOENT\n');
    await rename(temp('elsewhere'), temp('volume'));
    await waitForReadiness(200, 'ok\n');
  });

  it('shows the same in the API as in the status, and the log names the export in every line', async () => {
    await using sink = await startHttpSink();
    await using sidecar = await start();
    await apply(requests, diskExport('nightly', { http: { url: `${sink.url}/{disk}` } }));
    const status = await waitForStatus(requests, 'nightly');
    const view = (await (await sidecar.get('/api/v1/exports/vms/nightly')).json()) as Record<string, unknown>;
    const { phase, message, startTime, completionTime, attempts } = status;
    assert.deepEqual(
      { phase, message, startTime, completionTime, attempts },
      { phase: view.phase, message: view.message, startTime: view.startTime, completionTime: view.completionTime, attempts: view.attempts },
    );
    const [disk] = view.disks as Record<string, unknown>[];
    const { upload: _upload, format: _format, ...facts } = status.disks?.[0] ?? assert.fail();
    for (const [name, value] of Object.entries(facts)) assert.deepEqual(disk?.[name], value, name);
    const about = sidecar.log().filter(({ msg }) => msg !== 'sidecar runs');
    assert.deepEqual(
      about.map(({ msg }) => msg),
      ['export claimed', 'scan begins', 'transfer begins', 'disk has arrived', 'export has ended'],
    );
    for (const line of about) assert.deepEqual([line.namespace, line.export], ['vms', 'nightly'], JSON.stringify(line));
    for (const line of about.filter(({ msg }) => ['scan begins', 'transfer begins', 'disk has arrived'].includes(String(msg))))
      assert.deepEqual([line.disk, line.attempt], ['disk.img', 1], JSON.stringify(line));
  });

  it('refuses contradictory settings', async () => {
    await assert.rejects(start('--listen-key-file', temp('none')), /both --listen-certificate-file and --listen-key-file/);
    await assert.rejects(start('--listen-token-file', temp('none')), /the token cannot be read: ENOENT/);
    await assert.rejects(start('--listen-token-review'), /--listen-token-review asks the API server, and with --requests there is none/);
  });

  it('ends the process in a cluster when its settings are refused', async () => {
    await using api = await startFakeApiServer();
    const access = api.access(temp('kubeconfig'));
    await access.close();
    const cluster = ['sidecar', '--kubeconfig', temp('kubeconfig'), '--namespace', 'vms', '--listen-host', '127.0.0.1'];
    const cases: [string[], RegExp][] = [
      [['--listen-port', '0', '--listen-token-file', temp('none'), '--listen-token-review'], /use either --listen-token-file or --listen/],
      [['--listen-port', new URL(api.url).port], /cannot listen at 127\.0\.0\.1:\d+: EADDRINUSE/],
    ];
    for (const [flags, says] of cases) {
      const { code, stderr } = await disklift([...cluster, ...flags]);
      assert.equal(code, 2, stderr);
      assert.match(stderr, says);
    }
  });
});
