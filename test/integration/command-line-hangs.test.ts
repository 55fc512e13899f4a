/**
 * Everything outside that a command waits for may hang or fail. A signal ends the command within a second in every
 * case, and a failure gives one line with the place. The engine's calls have tests of their own:
 * test/unit/engine/serve-requests.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { stringify } from 'yaml';
import { disklift } from '../helpers/disklift.ts';
import { freePort } from '../helpers/free-port.ts';
import { credentialsSecret, diskExport } from '../helpers/manifest.ts';
import { type S3Fake, startS3Fake } from '../helpers/s3-fake.ts';
import { s3InParts } from '../helpers/s3-in-parts.ts';
import { type SilentPlace, silentFile, silentServer } from '../helpers/silent-places.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';

const MIB = 1024 * 1024;

const BIN = path.join(import.meta.dirname, '..', '..', 'src', 'bin.ts');

/** The promised second, and another one for a busy machine. */
const LIMIT_MS = 2000;

const SIDECAR = ['sidecar', '--listen-host', '127.0.0.1', '--listen-port', '0'];
const STOP = ['stop-sidecars', '--namespace', 'n', '--selector', 'a=b', '--deployment', 'd'];
const STOP_CONTROLLER = ['stop-controller', '--namespace', 'n', '--deployment', 'd', '--selector', 'a=b'];

const NOWHERE = { http: { url: 'http://127.0.0.1:1/e' } };

type KubeconfigUser = Record<string, unknown>;

describe('the command line', function () {
  this.timeout(60_000);
  const temp = useTempDir();

  beforeEach(() => {
    mkdirSync(temp('requests'));
    mkdirSync(temp('volume'));
    writeFileSync(temp('volume/disk.img'), Buffer.alloc(1_048_576, 7));
    for (const name of ['good.crt', 'good.key']) writeFileSync(temp(name), '');
  });

  function kubeconfig(server: string, user: KubeconfigUser = { token: 't' }): string {
    const config = {
      clusters: [{ name: 'c', cluster: { server } }],
      users: [{ name: 'u', user }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u', namespace: 'n' } }],
      'current-context': 'x',
    };
    writeFileSync(temp('kubeconfig'), JSON.stringify(config));
    return temp('kubeconfig');
  }

  function manifest(destination: object): string {
    writeFileSync(temp('request.yaml'), stringify(diskExport('e', destination, { backoffLimit: 0 })));
    return temp('request.yaml');
  }

  const requests = () => ['--requests', temp('requests')];
  const volume = () => ['--volume', `claim=${temp('volume')}`];

  /** The call that hangs or fails, its place, the arguments that lead to it, and the error line. */
  type Row = [what: string, kind: 'file' | 'server', args: (place: string) => string[], failure: RegExp];
  const rows: Row[] = [
    ['measure: the NBD server', 'server', (place) => ['measure', `nbd://${place}`], /^disklift: nbd:\S+: .*refused/],
    ['stream: the NBD server', 'server', (place) => ['stream', `nbd://${place}`], /^disklift: nbd:\S+: .*refused/],
    [
      'receive: the certificate',
      'file',
      (place) => ['receive', '--listen', '127.0.0.1:0', '--output', temp('out'), '--tls-cert', place, '--tls-key', temp('good.key')],
      /^disklift: \S+place: cannot be read: ENOENT\n$/,
    ],
    [
      'receive: the key',
      'file',
      (place) => ['receive', '--listen', '127.0.0.1:0', '--output', temp('out'), '--tls-cert', temp('good.crt'), '--tls-key', place],
      /^disklift: \S+place: cannot be read: ENOENT\n$/,
    ],
    ['export: the manifest', 'file', (place) => ['export', '-f', place], /^disklift: \S+place: cannot be read: ENOENT\n$/],
    [
      'export: the HTTP server',
      'server',
      (place) => ['export', '-f', manifest({ http: { url: `http://${place}/e` } }), ...volume()],
      /disklift: DestinationUnreachable: .*refused/,
    ],
    [
      'export: the TCP receiver',
      'server',
      (place) => {
        const [host, port] = place.split(':');
        return ['export', '-f', manifest({ tcp: { host, port: Number(port), protocol: 'Acknowledged' } }), ...volume()];
      },
      /disklift: DestinationUnreachable: .*refused/,
    ],
    ['create: the manifest', 'file', (place) => ['create', '-f', place], /^disklift: \S+place: cannot be read: ENOENT\n$/],
    [
      'create: the kubeconfig',
      'file',
      (place) => ['create', '-f', manifest(NOWHERE), '--kubeconfig', place],
      /^disklift: \S+place cannot be read: ENOENT/,
    ],
    [
      'create: the API server',
      'server',
      (place) => ['create', '-f', manifest(NOWHERE), '--kubeconfig', kubeconfig(`https://${place}`)],
      /^disklift: create diskexports n\/e: .*(refused|ECONNREFUSED)/,
    ],
    ['sidecar: the settings', 'file', (place) => [...SIDECAR, ...requests(), '--config', place], /^disklift: \S+place: ENOENT/],
    [
      'sidecar: the token file',
      'file',
      (place) => [...SIDECAR, ...requests(), '--listen-token-file', place],
      /^disklift: \S+place: the token cannot be read: ENOENT\n$/,
    ],
    [
      'sidecar: the certificate',
      'file',
      (place) => [...SIDECAR, ...requests(), '--listen-certificate-file', place, '--listen-key-file', temp('good.key')],
      /^disklift: \S+place and \S+good\.key cannot be used for HTTPS: ENOENT\n$/,
    ],
    [
      'sidecar: the key',
      'file',
      (place) => [...SIDECAR, ...requests(), '--listen-certificate-file', temp('good.crt'), '--listen-key-file', place],
      /^disklift: \S+good\.crt and \S+place cannot be used for HTTPS: ENOENT\n$/,
    ],
    ['sidecar: the kubeconfig', 'file', (place) => [...SIDECAR, '--kubeconfig', place], /^disklift: \S+place cannot be read: ENOENT/],
    [
      'stop-controller: the kubeconfig',
      'file',
      (place) => [...STOP_CONTROLLER, '--kubeconfig', place],
      /^disklift: \S+place cannot be read: ENOENT/,
    ],
    ['stop-sidecars: the kubeconfig', 'file', (place) => [...STOP, '--kubeconfig', place], /^disklift: \S+place cannot be read: ENOENT/],
  ];

  /** The command waits for these, and shows the reason meanwhile. */
  const waits: [what: string, kind: Row[1], args: Row[2]][] = [
    ['sidecar: the API server', 'server', (place) => [...SIDECAR, '--kubeconfig', kubeconfig(`https://${place}`)]],
    ['stop-controller: the API server', 'server', (place) => [...STOP_CONTROLLER, '--kubeconfig', kubeconfig(`https://${place}`)]],
    ['stop-sidecars: the API server', 'server', (place) => [...STOP, '--kubeconfig', kubeconfig(`https://${place}`)]],
    [
      'sidecar: the token of the kubeconfig',
      'file',
      (place) => [...SIDECAR, '--kubeconfig', kubeconfig('https://127.0.0.1:1', { tokenFile: place })],
    ],
    [
      'stop-sidecars: the token of the kubeconfig',
      'file',
      (place) => [...STOP, '--kubeconfig', kubeconfig('https://127.0.0.1:1', { tokenFile: place })],
    ],
    [
      'stop-sidecars: the credential plugin',
      'file',
      (place) => {
        const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'cat', args: [place] };
        return [...STOP, '--kubeconfig', kubeconfig('https://127.0.0.1:1', { exec })];
      },
    ],
  ];

  /** @param again resolves when the test sends the signal again */
  async function msFromSignalToEnd(
    args: readonly string[],
    silent: Pick<SilentPlace, 'reached'>,
    signal: NodeJS.Signals,
    again: () => Promise<void> = () => new Promise(() => {}),
  ) {
    const child = spawn(process.execPath, [BIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (bytes: Buffer) => (stderr += bytes));
    child.stdout.resume();
    const ended = once(child, 'close');
    await Promise.race([silent.reached, ended.then(() => assert.fail(`ended before the signal: ${stderr}`))]);
    const startMs = performance.now();
    child.kill(signal);
    void again().then(() => child.kill(signal));
    const [code, endSignal] = await ended;
    return { tookMs: performance.now() - startMs, code, endSignal, stderr };
  }

  describe('ends within a second by a signal while it waits for', () => {
    const all = [...rows.map(([what, kind, args]) => [what, kind, args] as const), ...waits];
    for (const [index, [what, kind, args]] of all.entries())
      it(what, async () => {
        await using silent = kind === 'file' ? silentFile(temp('place')) : await silentServer();
        const signal = index % 2 === 0 ? 'SIGTERM' : 'SIGINT';
        const { tookMs, code, endSignal, stderr } = await msFromSignalToEnd(args(silent.place), silent, signal);
        assert.ok(tookMs < LIMIT_MS, `${tookMs} ms: ${stderr}`);
        // A running sidecar ends with success when it is stopped.
        if (code === 0) return assert.equal(what.split(':')[0], 'sidecar');
        assert.equal(endSignal, signal, stderr);
        assert.match(stderr, new RegExp(`^disklift: cancelled by ${signal}$`, 'm'));
        assert.doesNotMatch(stderr, /internal error/);
      });
  });

  describe('that aborts an upload at a destination which does not answer', () => {
    /** @returns the arguments of a command that hangs in the abort */
    async function prepare(s3: S3Fake): Promise<string[]> {
      s3.quirks.push({ operation: 'UploadPart', after: 1, does: 'hang' }, { operation: 'AbortMultipartUpload', does: 'hang' });
      await createDisk(temp('volume/disk.img'), 16 * MIB, [{ offsetBytes: 0, lengthBytes: 16 * MIB, content: 'random' }]);
      const secret = credentialsSecret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
      const text = [diskExport('e', s3InParts(s3.url, 'e')), secret].map((each) => stringify(each)).join('---\n');
      writeFileSync(temp('request.yaml'), text);
      return ['export', '-f', temp('request.yaml'), ...volume()];
    }

    const uploading = (s3: S3Fake) => ({ reached: until('a part', () => s3.count('UploadPart') > 1) });

    it('reports that after a second, and ends after eight', async () => {
      await using s3 = await startS3Fake();
      const { tookMs, stderr } = await msFromSignalToEnd(await prepare(s3), uploading(s3), 'SIGTERM');
      assert.ok(tookMs > 7900 && tookMs < 10_500, `${tookMs} ms`);
      assert.match(stderr, /^disklift: warning: the upload is being aborted, which takes 8 s at most; a second signal ends at once/m);
    });

    it('ends at once by a second signal', async () => {
      await using s3 = await startS3Fake();
      const aborting = () => until('the abort', () => s3.count('AbortMultipartUpload') > 0);
      const { tookMs } = await msFromSignalToEnd(await prepare(s3), uploading(s3), 'SIGTERM', aborting);
      assert.ok(tookMs < LIMIT_MS, `${tookMs} ms`);
    });
  });

  describe('fails with one line that names the file or server when it cannot reach', () => {
    for (const [what, kind, args, failure] of rows)
      it(what, async () => {
        const { code, stderr } = await disklift(args(kind === 'file' ? temp('place') : `127.0.0.1:${await freePort()}`));
        assert.ok(code === 1 || code === 2, `${code}: ${stderr}`);
        assert.match(stderr, failure);
        assert.equal(
          stderr
            .trim()
            .split('\n')
            .filter((line) => line.startsWith('disklift: ') && !line.includes('warning')).length,
          1,
          stderr,
        );
      });
  });
});
