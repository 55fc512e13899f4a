/**
 * Objects of the documentation's examples on a node: a namespace, claims with small disks, and receivers with the
 * examples' names.
 */

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { helmDirectory } from '../../helpers/helm-tools.ts';
import { createKubeVirtDisk } from '../../helpers/kubevirt-disk.ts';
import { attachLoopDevice } from '../../helpers/loop-device.ts';
import { RCLONE } from '../../helpers/python-program.ts';
import type { NodeCluster } from '../node-cluster.ts';
import { availableVolume, boundClaim } from './claims.ts';
import { RECEIVER_NAMES } from './configs.ts';
import { answering, startOnNode } from './receivers.ts';

const ROOT = path.join(import.meta.dirname, '..', '..', '..');
const BIN = path.join(ROOT, 'src', 'bin.ts');

const NAMESPACE = 'vms';
const STORAGE_CLASS = 'small';
const BUCKET = 'backups';
/** A little larger than the disks. */
const RESTORE_BYTES = 80 * 1024 * 1024;
/** The path on the node of the volume that its pods mount, for commands without a cluster. */
const MOUNTED_VOLUME = '/mnt/fedora-root';
const NBD_SOCKET = '/run/nbd.sock';

export interface Playground {
  namespace: string;
  /** The disk on the claims fedora-root and windows-root. */
  disk: string;
  /** The device behind the claim that restore-pod-block.yaml makes. */
  restoredDevice: string;
  /** @returns the file of an image at the receivers, by the location in the status of an export */
  fileOf(location: string): string;
  /** A script that runs a command of the documentation on the node. */
  run: string;
  /** Later tests look for programs of QEMU that are left, and the node's are children of this process too. */
  stopReceivers(): void;
}

export async function preparePlayground(cluster: NodeCluster): Promise<Playground> {
  const directory = path.join(cluster.directory, 'playground');
  const [volume, bin] = [path.join(directory, 'fedora-root'), path.join(directory, 'bin')];
  for (const each of [volume, bin, path.join(directory, 'objects', BUCKET), path.join(directory, 'files')])
    mkdirSync(each, { recursive: true });
  const disk = await createKubeVirtDisk(volume);
  const restored = path.join(directory, 'restored.img');
  writeFileSync(restored, '');
  truncateSync(restored, RESTORE_BYTES);
  const windows = path.join(directory, 'windows');
  mkdirSync(windows);
  const [device, restoredDevice] = [await attachLoopDevice(await createKubeVirtDisk(windows)), await attachLoopDevice(restored)];
  await succeed(cluster, 'mkdir', '-p', MOUNTED_VOLUME);
  await succeed(cluster, 'mount', '--bind', volume, MOUNTED_VOLUME);
  await applyObjects(cluster, { volume, device: device.path, restoredDevice: restoredDevice.path });
  const receivers = await startReceivers(cluster, directory, disk);
  writeFileSync(path.join(bin, 'disklift'), `#!/bin/sh\nexec '${process.execPath}' '${BIN}' "$@"\n`, { mode: 0o755 });
  return {
    namespace: NAMESPACE,
    disk,
    restoredDevice: restoredDevice.path,
    fileOf: (location) => fileOf(directory, location),
    run: writeRunScript(cluster, bin),
    stopReceivers() {
      for (const { pid } of receivers) if (pid !== undefined) process.kill(-pid, 'SIGKILL');
    },
  };
}

async function succeed(cluster: NodeCluster, command: string, ...args: string[]): Promise<void> {
  const { code, stdout, stderr } = await cluster.run(command, args);
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
}

interface Places {
  volume: string;
  device: string;
  restoredDevice: string;
}

async function applyObjects(cluster: NodeCluster, { volume, device, restoredDevice }: Places): Promise<void> {
  const kubectl = (...args: string[]) => succeed(cluster, path.join(cluster.binaries, 'kubectl'), ...args);
  await kubectl('create', 'namespace', NAMESPACE);
  await kubectl('label', 'namespace', NAMESPACE, 'pod-security.kubernetes.io/enforce=restricted');
  await kubectl('--namespace', NAMESPACE, 'create', 'configmap', 'backup-ca', `--from-file=ca.crt=${cluster.authority.caFile}`);
  const items = [
    ...boundClaim({ namespace: NAMESPACE, name: 'fedora-root', path: volume }),
    ...boundClaim({ namespace: NAMESPACE, name: 'windows-root', path: device, mode: 'Block' }),
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: STORAGE_CLASS, annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
      provisioner: 'kubernetes.io/no-provisioner',
    },
    availableVolume({ name: 'restored', path: restoredDevice, mode: 'Block', storageClassName: STORAGE_CLASS }),
  ];
  const file = path.join(cluster.directory, 'playground.json');
  writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
  await kubectl('apply', '--filename', file);
}

async function startReceivers(cluster: NodeCluster, directory: string, disk: string): Promise<ChildProcess[]> {
  const names = Object.keys(RECEIVER_NAMES).map((name) => `DNS:${name}`);
  const { certificateFile, keyFile } = await cluster.authority.issue('receivers', names.join());
  const tls = ['--cert', certificateFile, '--key', keyFile];
  const { 'backup.example': backup, 's3.example': s3 } = RECEIVER_NAMES;
  const rclone = (protocol: string, address: string, ...args: string[]) =>
    startOnNode(cluster, RCLONE, ['serve', protocol, '--config', '', '--addr', `${address}:443`, ...tls, ...args]);
  const image = path.join(directory, 'received.qcow2');
  const receive = ['receive', '--listen', `${backup}:9475`, '--output', image, '--keep', '--force'];
  const nbd = ['--read-only', '--persistent', '--shared=4', '--format=raw', `--socket=${NBD_SOCKET}`, disk];
  const receivers = [
    rclone('webdav', backup, path.join(directory, 'files')),
    rclone('s3', s3, '--force-path-style=false', '--auth-key', 'KEY-ID,SECRET-KEY', path.join(directory, 'objects')),
    startOnNode(cluster, process.execPath, [BIN, ...receive, '--tls-cert', certificateFile, '--tls-key', keyFile]),
    startOnNode(cluster, 'qemu-nbd', nbd),
  ];
  await Promise.all([answering(cluster, 443, backup), answering(cluster, 443, s3)]);
  return receivers;
}

function fileOf(directory: string, location: string): string {
  const { protocol, host, pathname } = new URL(location);
  if (protocol === 's3:') return path.join(directory, 'objects', host, pathname);
  if (protocol === 'https:' && host === 'backup.example') return path.join(directory, 'files', pathname);
  if (protocol === 'tcp:') return path.join(directory, 'received.qcow2');
  return assert.fail(`no receiver has ${location}`);
}

function writeRunScript({ enter, kubeconfig, binaries, authority, directory }: NodeCluster, bin: string): string {
  const file = path.join(directory, 'run');
  const trust = ['CURL_CA_BUNDLE', 'NODE_EXTRA_CA_CERTS'].map((name) => `${name}=${authority.caFile}`).join(' ');
  const environment = `env --chdir="$PWD" KUBECONFIG=${kubeconfig} ${trust} PATH="${bin}:${binaries}:${helmDirectory()}:$PATH"`;
  writeFileSync(file, `#!/bin/sh\nexec ${enter.join(' ')} ${environment} "$@"\n`, { mode: 0o755 });
  return file;
}
