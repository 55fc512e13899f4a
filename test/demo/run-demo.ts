/**
 * `make demo` exports a volume with two disks to an HTTP server, an S3 server and `disklift receive`. A sidecar finds
 * the three requests in a directory. qemu-img compares the results with the disks.
 */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { credentialsSecret, diskExport } from '../helpers/manifest.ts';
import { apply, type Sidecar, startSidecar, waitForStatus } from '../helpers/sidecar.ts';
import { buildVolume } from './build-volume.ts';
import { startHttpStore } from './http-store.ts';
import { startS3Store } from './s3-store.ts';

const BIN = path.join(import.meta.dirname, '..', '..', 'src', 'bin.ts');

const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-demo-'));
const at = (name: string) => path.join(directory, name);

function show(line: string): void {
  console.log(`$ ${line}`);
  const shown = line.replace(/^disklift/, `'${process.execPath}' '${BIN}'`);
  execFileSync('bash', ['-o', 'pipefail', '-c', shown], { cwd: directory, stdio: ['ignore', 'inherit', 'inherit'] });
}

async function startReceiver(file: string) {
  const child = spawn(process.execPath, [BIN, 'receive', '--listen', '127.0.0.1:0', '--output', file], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const [line] = (await once(child.stderr, 'data')) as [Buffer];
  const port = Number(/:(\d+)\s*$/.exec(line.toString().trim())?.[1]);
  return { port, exited: once(child, 'exit'), kill: () => child.kill() };
}

function printStatus(name: string, { phase, message, disks = [] }: DiskExportStatus): void {
  console.log(`${name}: ${phase}, ${message}`);
  for (const { path: disk, location, clusters, sha256 } of disks)
    console.log(`  ${disk} -> ${location}\n    clusters: ${JSON.stringify(clusters)}\n    sha256:   ${sha256}`);
  if (phase !== 'Succeeded') throw new Error(`${name} did not succeed`);
}

async function printMetrics(sidecar: Sidecar): Promise<void> {
  const metrics = await sidecar.metrics();
  const wanted = /^disklift_((scanned|skipped|written)_clusters_total|sent_bytes_total|exports_total.*Succeeded)/;
  console.log('\n$ curl http://127.0.0.1:9474/metrics      (the lines about clusters and results)');
  for (const [series, value] of metrics) if (wanted.test(series) && value > 0) console.log(`${series} ${value}`);
  console.log('');
}

async function runDemo(): Promise<void> {
  console.log('A volume with two disks. One has 1 GiB: a file system, 128 MiB of written zeros, and holes.\n');
  buildVolume(at('volume'));
  show('disklift measure volume/system.img');
  for (const name of ['http', 'requests']) mkdirSync(at(name));
  await using http = await startHttpStore(at('http'));
  await using s3 = await startS3Store(at('s3'));
  const receiver = await startReceiver(at('received.qcow2'));
  const { accessKeyId, secretAccessKey } = s3.keys;
  const keys = credentialsSecret('keys', { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey });
  const s3Destination = {
    endpoint: s3.url,
    bucket: s3.bucket,
    key: '{name}-{disk}.qcow2',
    forcePathStyle: true,
    credentialsSecretRef: { name: 'keys' },
  };
  const oneDisk = { source: { persistentVolumeClaim: { claimName: 'claim' }, disks: [{ path: 'system.img' }] } };

  console.log(`\nA sidecar runs a directory of requests: one to an HTTP server, one to ${s3.what}, one to disklift receive.\n`);
  await using sidecar = await startSidecar({ requests: at('requests'), volumes: [`claim=${at('volume')}`] });
  await apply(at('requests'), diskExport('to-http', { http: { url: `${http.url}/{disk}.qcow2` } }));
  await apply(at('requests'), diskExport('to-s3', { s3: s3Destination }), keys);
  await apply(at('requests'), diskExport('to-tcp', { tcp: { host: '127.0.0.1', port: receiver.port, protocol: 'Acknowledged' } }, oneDisk));
  try {
    for (const name of ['to-http', 'to-s3', 'to-tcp']) printStatus(name, await waitForStatus(at('requests'), name));
  } finally {
    receiver.kill();
  }
  await receiver.exited;
  await printMetrics(sidecar);
  for (const disk of ['system', 'data'])
    for (const image of [`http/${disk}.qcow2`, path.relative(directory, s3.fetch(`to-s3-${disk}.qcow2`))])
      show(`qemu-img compare -f raw -F qcow2 volume/${disk}.img ${image}`);
  show('qemu-img check received.qcow2');
  show('qemu-img compare -f raw -F qcow2 volume/system.img received.qcow2');
}

try {
  await runDemo();
} finally {
  rmSync(directory, { recursive: true, force: true });
}
