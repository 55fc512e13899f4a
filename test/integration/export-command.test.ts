/** `disklift export`: one request to its end, without a cluster. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import type { DiskExportStatus, DiskStatus } from '../../src/resource/disk-export.ts';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { credentialsSecret, diskExport } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { type CommandResult, runShell } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;
const SECRET = 'Bearer s3cr3t-t0ken';

describe('disklift export', () => {
  const temp = useTempDir();
  beforeEach(async () => {
    await mkdir(temp('volume'));
    await createDisk(temp('volume/a.img'), 8 * MIB, [{ offsetBytes: MIB, lengthBytes: 3 * MIB, content: 'random' }]);
    await createDisk(temp('volume/b.raw'), 5 * MIB + 512, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]);
  });

  async function writeManifests(...objects: object[]): Promise<string> {
    await writeFile(temp('request.yaml'), objects.map((each) => stringify(each)).join('---\n'));
    return temp('request.yaml');
  }

  const run = (file: string, ...flags: string[]) => disklift(['export', '-f', file, '--volume', `claim=${temp('volume')}`, ...flags]);

  const statusIn = ({ stdout }: CommandResult) => (parse(stdout.toString()) as { status: DiskExportStatus }).status;

  async function assertArrived(sink: HttpSink, place: string, disk: string): Promise<Buffer> {
    const body = sink.complete.get(place) ?? assert.fail(`nothing at ${place}, but at ${[...sink.complete.keys()]}`);
    await writeFile(temp('arrived.qcow2'), body);
    await assertImageOf(temp('arrived.qcow2'), disk);
    return body;
  }

  it('sends every disk of the volume to its own location, and prints the status', async () => {
    await using sink = await startHttpSink();
    const file = await writeManifests(diskExport('nightly', { http: { url: `${sink.url}/{namespace}/{name}/{claim}-{disk}.qcow2` } }));
    const result = await run(file);
    assert.equal(result.code, 0, result.stderr);
    const status = statusIn(result);
    assert.equal(status.phase, 'Succeeded');
    assert.deepEqual(
      status.disks?.map(({ path: disk, location, attempts }) => [disk, location, attempts]),
      [
        ['a.img', `${sink.url}/vms/nightly/claim-a.qcow2`, 1],
        ['b.raw', `${sink.url}/vms/nightly/claim-b.qcow2`, 1],
      ],
    );
    for (const [index, name] of ['a.img', 'b.raw'].entries()) {
      const body = await assertArrived(sink, `/vms/nightly/claim-${path.parse(name).name}.qcow2`, temp(`volume/${name}`));
      const { sha256, imageBytes, sentBytes, clusters }: DiskStatus = status.disks?.[index] ?? assert.fail();
      assert.equal(sha256, createHash('sha256').update(body).digest('hex'));
      assert.deepEqual([imageBytes, sentBytes], [body.length, body.length]);
      assert.equal(clusters?.scanned, (clusters?.skipped ?? 0) + (clusters?.written ?? 0));
    }
    assert.equal(result.stderr, '', 'nothing on standard error where there is no terminal');
  });

  it('is another export in each run, so a receipt of the same second is no reason to send nothing', async () => {
    await using sink = await startHttpSink();
    const file = await writeManifests(diskExport('nightly', { http: { url: `${sink.url}/{uid}/{disk}.qcow2` } }));
    for (const count of [2, 4]) {
      const result = await run(file);
      assert.equal(result.code, 0, result.stderr);
      assert.equal([...sink.complete.keys()].filter((place) => place.endsWith('.qcow2')).length, count);
    }
  });

  it('makes a name from generateName, and fills in its start time', async () => {
    await using sink = await startHttpSink();
    const { metadata, ...manifest } = diskExport('', { http: { url: `${sink.url}/{name}/{date}/{timestamp}/{disk}` } });
    const startMs = Date.now() - 1000;
    // A manifest printed by kubectl has the creation time of another object.
    const creation = { generateName: 'nightly-', name: undefined, creationTimestamp: '2001-01-01T00:00:00Z' };
    const result = await run(await writeManifests({ ...manifest, metadata: { ...metadata, ...creation } }));
    assert.equal(result.code, 0, result.stderr);
    for (const location of statusIn(result).disks?.map((disk) => disk.location) ?? assert.fail()) {
      const [, suffix, date, timestamp] = /nightly-(.+)\/(.+)\/(.+)\//.exec(location ?? '') ?? assert.fail(location);
      const [, ...fields] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(timestamp ?? '') ?? assert.fail(timestamp);
      const [year = 0, month = 0, ...others] = fields.map(Number);
      const timeMs = Date.UTC(year, month - 1, ...(others as [number, number, number, number]));
      assert.ok(timeMs >= startMs && timeMs <= Date.now(), timestamp);
      assert.deepEqual([suffix, date?.replaceAll('-', '')], [timestamp?.toLowerCase(), timestamp?.slice(0, 8)]);
    }
  });

  it('sends the disks of a VM copied with all its files, and names a left-out file that may be a disk', async () => {
    await using sink = await startHttpSink();
    for (const name of ['a-ctk.vmdk', 'a.vmx', 'a.nvram', 'vmware.log', 'c.img.xz']) await writeFile(temp(`volume/${name}`), name);
    const result = await run(await writeManifests(diskExport('whole', { http: { url: `${sink.url}/{disk}` } })));
    assert.equal(result.code, 0, result.stderr);
    const { phase, disks, conditions } = statusIn(result);
    assert.deepEqual([phase, disks?.map(({ path: disk }) => disk)], ['Succeeded', ['a.img', 'b.raw']]);
    assert.match(
      conditions?.find(({ type }) => type === 'DisksLeftOut')?.message ?? '',
      /^c\.img\.xz is an xz file, which is not read here; unpack it first$/,
    );
    assert.match(result.stderr, /a-ctk\.vmdk is not exported: it is the list of changed blocks/);
    assert.match(result.stderr, /left out: c\.img\.xz is an xz file/);
  });

  it('sends the named disks with the requested options and the headers of a Secret', async () => {
    await using sink = await startHttpSink();
    const spec = {
      source: { persistentVolumeClaim: { claimName: 'claim' }, disks: [{ path: 'a.img' }] },
      image: { clusterSize: '4Ki', refcountBits: 1 },
      checksum: 'None',
    };
    const destination = { http: { url: `${sink.url}/a`, method: 'POST', headersSecretRef: { name: 'token' } } };
    const file = await writeManifests(diskExport('one', destination, spec), credentialsSecret('token', { Authorization: SECRET }));
    const result = await run(file);
    assert.equal(result.code, 0, result.stderr);
    assert.deepEqual(
      sink.requests.map(({ method, headers }) => [method, headers.authorization]),
      [['POST', SECRET]],
    );
    await assertArrived(sink, '/a', temp('volume/a.img'));
    const { 'cluster-size': clusterSize } = JSON.parse(
      (await runShell(`qemu-img info --output=json ${temp('arrived.qcow2')}`)).stdout.toString(),
    );
    assert.equal(clusterSize, 4096);
    assert.equal(statusIn(result).disks?.[0]?.sha256, undefined);
    assert.ok(!`${result.stdout}${result.stderr}`.includes('s3cr3t'));
  });

  it('accepts a user of a Windows domain in the URL of a Secret, as curl does, and shows nothing of it', async () => {
    await using sink = await startHttpSink();
    const url = `${sink.url.replace('//', '//CORP\\bob:s3cr3t@')}/{disk}`;
    const source = { persistentVolumeClaim: { claimName: 'claim' }, disks: [{ path: 'a.img' }] };
    const file = await writeManifests(
      diskExport('one', { http: { urlSecretRef: { name: 'target', key: 'url' } } }, { source }),
      credentialsSecret('target', { url }),
    );
    const result = await run(file);
    assert.equal(result.code, 0, result.stderr);
    const curl = await runShell(`curl --silent --fail --upload-file /dev/null '${url.replace('{disk}', 'curl')}'`);
    assert.equal(curl.code, 0, curl.stderr);
    const [first, ...others] = sink.requests.map(({ headers }) => headers.authorization);
    assert.equal(first, `Basic ${Buffer.from('CORP\\bob:s3cr3t').toString('base64')}`);
    assert.deepEqual(others, [first], 'curl sends the same');
    assert.ok(!`${result.stdout}${result.stderr}`.includes('s3cr3t'));
  });

  for (const rest of ['h\\bob:s3cr3t/x', 'bob:s3cr3t@x@h/x', 'bob:s3cr3t x@h/'])
    it(`refuses the URL http://${rest} of a Secret and shows nothing of it`, async () => {
      const source = { persistentVolumeClaim: { claimName: 'claim' }, disks: [{ path: 'a.img' }] };
      const file = await writeManifests(
        diskExport('one', { http: { urlSecretRef: { name: 'target', key: 'url' } } }, { source, backoffLimit: 0 }),
        credentialsSecret('target', { url: `http://${rest}` }),
      );
      const result = await run(file);
      assert.match(result.stderr, /CredentialsInvalid: Secret vms\/target: the URL in its entry url (holds|has)/);
      assert.ok(!`${result.stdout}${result.stderr}`.includes('s3cr3t'), result.stderr);
    });

  it('sends no byte of files that a hostile volume refers to', async () => {
    await using sink = await startHttpSink();
    await mkdir(temp('outside'));
    await createDisk(temp('outside/disk.img'), MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]);
    await symlink('../outside/disk.img', temp('volume/file.img'));
    await symlink(temp('outside'), temp('volume/folder'));
    await symlink('/dev/zero', temp('volume/device.img'));
    await runShell(`mkfifo '${temp('volume/fifo.img')}'`);
    const disks = ['file.img', 'folder/disk.img', 'device.img', 'fifo.img'].map((name) => ({ path: name, format: 'Raw' }));
    const source = { persistentVolumeClaim: { claimName: 'claim' }, disks };
    const result = await run(await writeManifests(diskExport('one', { http: { url: `${sink.url}/{disk}` } }, { source })));
    assert.equal(result.code, 2, result.stderr);
    assert.deepEqual(
      statusIn(result).disks?.map(({ phase, reason }) => [phase, reason]),
      disks.map(() => ['Failed', 'InvalidRequest']),
    );
    assert.equal(sink.requests.length, 0);
  });

  it('reads the manifest from standard input', async () => {
    await using sink = await startHttpSink();
    const file = await writeManifests(diskExport('one', { http: { url: `${sink.url}/{disk}` } }));
    const { code } = await runShell(`${diskliftLine(['export', '-f', '-', '--volume', `claim=${temp('volume')}`])} < ${file}`);
    assert.equal(code, 0);
    assert.deepEqual([...sink.complete.keys()].sort(), ['/a', '/b']);
  });

  it('fails with the status, one line and exit code 1 when the destination refuses', async () => {
    await using sink = await startHttpSink({ onExpect: (_request, response) => void response.writeHead(403).end() });
    const result = await run(await writeManifests(diskExport('one', { http: { url: `${sink.url}/{disk}` } })));
    assert.equal(result.code, 1);
    const status = statusIn(result);
    assert.deepEqual([status.phase, status.disks?.[0]?.reason], ['Failed', 'CredentialsInvalid']);
    assert.equal(status.conditions?.find(({ type }) => type === 'Finished')?.status, 'True');
    assert.match(result.stderr, /^disklift: CredentialsInvalid: .*\/a: answered 403.*\n$/);
  });

  it('reports progress as lines of JSON', async () => {
    await using sink = await startHttpSink();
    const result = await run(await writeManifests(diskExport('one', { http: { url: `${sink.url}/{disk}` } })), '--progress', 'json');
    const lines = result.stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      lines.filter(({ done }) => done).map(({ pass, bytes, totalBytes }) => [pass, bytes === totalBytes]),
      [
        ['stream', true],
        ['stream', true],
      ],
    );
  });

  it('is cancelled by SIGINT, reports that, and leaves no complete image', async () => {
    const seen = Promise.withResolvers<void>();
    await using sink = await startHttpSink({
      onRequest: (request) =>
        void request.once('data', () => {
          request.pause();
          seen.resolve();
        }),
    });
    await createDisk(temp('volume/a.img'), 64 * MIB, [{ offsetBytes: 0, lengthBytes: 64 * MIB, content: 'random' }]);
    const file = await writeManifests(diskExport('one', { http: { url: `${sink.url}/{disk}` } }));
    const child = spawn('bash', ['-c', `exec ${diskliftLine(['export', '-f', file, '--volume', `claim=${temp('volume')}`])}`], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => (stdout += chunk));
    child.stderr.on('data', (chunk) => (stderr += chunk));
    await seen.promise;
    const startMs = performance.now();
    child.kill('SIGINT');
    const [, signal] = await once(child, 'close');
    assert.ok(performance.now() - startMs < 1500);
    assert.equal(signal, 'SIGINT');
    assert.match(stderr, /cancelled by SIGINT/);
    assert.equal((parse(stdout) as { status: DiskExportStatus }).status.phase, 'Cancelled');
    assert.equal(sink.complete.size, 0);
  });

  const refusals: [string, () => object[], string[], number, RegExp][] = [
    ['an unknown field', () => [diskExport('x', { http: { url: 'http://h/' } }, { colour: 'red' })], [], 2, /spec.*colour/],
    ['two destinations', () => [diskExport('x', { http: { url: 'http://h/' }, tcp: { host: 'h', port: 1 } })], [], 2, /destination/],
    ['no DiskExport', () => [credentialsSecret('x', {})], [], 2, /DiskExport/],
    [
      'two DiskExports',
      () => [diskExport('x', { tcp: { host: 'h', port: 1 } }), diskExport('y', { tcp: { host: 'h', port: 1 } })],
      [],
      2,
      /2|two|more than one/,
    ],
    ['a volume that is not NAME=PATH', () => [diskExport('x', { tcp: { host: 'h', port: 1 } })], ['--volume', 'nothing'], 2, /NAME=PATH/],
  ];
  for (const [what, objects, flags, code, message] of refusals)
    it(`refuses ${what} in one line, with exit code ${code}`, async () => {
      const result = await run(await writeManifests(...objects()), ...flags);
      assert.equal(result.code, code, result.stderr);
      assert.match(result.stderr, /^disklift: [^\n]+\n$/);
      assert.match(result.stderr, message);
      assert.equal(result.stdout.length, 0);
    });

  const failures: [string, object, Record<string, unknown>, string][] = [
    [
      'a claim that is nowhere',
      { tcp: { host: '127.0.0.1', port: 1 } },
      { source: { persistentVolumeClaim: { claimName: 'other' } } },
      'SourceNotFound',
    ],
    [
      'a disk that is not there',
      { tcp: { host: '127.0.0.1', port: 1 } },
      { source: { persistentVolumeClaim: { claimName: 'claim' }, disks: [{ path: 'no.img' }] } },
      'SourceNotFound',
    ],
    ['two disks for one location', { http: { url: 'http://127.0.0.1:1/same' } }, {}, 'InvalidRequest'],
    [
      'a Secret that is not there',
      { http: { url: 'http://127.0.0.1:1/{disk}', headersSecretRef: { name: 'none' } } },
      {},
      'CredentialsInvalid',
    ],
    ['a peer that does not answer', { http: { url: 'http://127.0.0.1:1/{disk}' } }, { backoffLimit: 0 }, 'DestinationUnreachable'],
  ];
  for (const [what, destination, spec, reason] of failures)
    it(`ends ${reason} for ${what}`, async () => {
      const result = await run(await writeManifests(diskExport('x', destination, spec)));
      const succeeded = statusIn(result).conditions?.find(({ type }) => type === 'Succeeded');
      assert.deepEqual([result.code === 0, succeeded?.status, succeeded?.reason], [false, 'False', reason]);
    });
});
