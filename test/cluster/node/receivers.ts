/** Destinations of pods' exports: processes on the node, at its own address. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { VERSITYGW_KEYS, versitygwPath } from '../../helpers/versitygw.ts';
import type { NodeCluster } from '../node-cluster.ts';
import { NODE_ADDRESS } from './configs.ts';

const FIXTURES = path.join(import.meta.dirname, '..', '..', 'fixtures');
const BIN = path.join(import.meta.dirname, '..', '..', '..', 'src', 'bin.ts');

const HTTP_PORT = 8080;
export const S3_PORT = 7070;
export const TCP_PORT = 9475;
export const BUCKET = 'backups';

/** Starts a program on the node, which ends with the node. Its output lies in the node's directory. */
export function startOnNode(
  { enter, directory }: NodeCluster,
  command: string,
  args: readonly string[],
  logFile = path.join(directory, 'receivers.log'),
): ChildProcess {
  const log = openSync(logFile, 'a');
  return spawn(enter[0], [...enter.slice(1), command, ...args], { stdio: ['ignore', log, log], detached: true });
}

export async function answering(cluster: NodeCluster, port: number, host: string = NODE_ADDRESS): Promise<void> {
  const script = `exec 3<>/dev/tcp/${host}/${port}`;
  for (const endMs = performance.now() + 20_000; performance.now() < endMs; await delay(100))
    if ((await cluster.run('bash', ['-c', script])).code === 0) return;
  assert.fail(`nobody listens at ${host}:${port}: ${readFileSync(path.join(cluster.directory, 'receivers.log'), 'utf8').slice(-1500)}`);
}

export interface HttpReceiver {
  url: string;
  /** The file that was sent under a name. */
  fileOf(name: string): string;
  /** The bodies received so far, in order. */
  bodies(): ReceivedBody[];
  /** From now on it reads no more of a body than the buffers hold. */
  hold(): void;
  letGo(): void;
}

interface ReceivedBody {
  name: string;
  what: 'begin' | 'whole';
  /** Since 1970. */
  atMs: number;
}

function bodiesIn(log: string): ReceivedBody[] {
  if (!existsSync(log)) return [];
  const lines = readFileSync(log, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => {
    const [what, atMs, name] = line.split(' ') as [ReceivedBody['what'], string, string];
    return { what, atMs: Number(atMs), name };
  });
}

export async function startHttpReceiver(cluster: NodeCluster): Promise<HttpReceiver> {
  const directory = path.join(cluster.directory, 'received');
  mkdirSync(directory, { recursive: true });
  startOnNode(cluster, process.execPath, [path.join(FIXTURES, 'receive-http.ts'), `${NODE_ADDRESS}:${HTTP_PORT}`, directory]);
  await answering(cluster, HTTP_PORT);
  const hold = path.join(directory, 'hold');
  return {
    url: `http://${NODE_ADDRESS}:${HTTP_PORT}`,
    fileOf: (name) => path.join(directory, name),
    bodies: () => bodiesIn(path.join(directory, 'log')),
    hold: () => writeFileSync(hold, ''),
    letGo: () => rmSync(hold, { force: true }),
  };
}

/** @returns the object's file */
export async function startS3Server(cluster: NodeCluster, port = S3_PORT): Promise<(key: string) => string> {
  const directory = path.join(cluster.directory, `objects-${port}`);
  mkdirSync(path.join(directory, BUCKET), { recursive: true });
  const keys = ['--access', VERSITYGW_KEYS.accessKeyId, '--secret', VERSITYGW_KEYS.secretAccessKey];
  startOnNode(cluster, versitygwPath(), [...keys, '--port', `${NODE_ADDRESS}:${port}`, '--quiet', 'posix', directory]);
  await answering(cluster, port);
  return (key) => path.join(directory, BUCKET, key);
}

export interface Relay {
  /** From now on 7 MiB reach the server, and no more. */
  hold(): void;
  letGo(): void;
  /** Whether the 7 MiB have passed. */
  isReached(): boolean;
  /** Bytes that have reached the server so far. */
  passedBytes(): number;
}

/** Starts a relay at a port in front of a server. */
export async function startRelay(cluster: NodeCluster, { port, serverPort }: { port: number; serverPort: number }): Promise<Relay> {
  const hold = path.join(cluster.directory, `relay-${port}`);
  startOnNode(cluster, process.execPath, [path.join(FIXTURES, 'relay.ts'), `${NODE_ADDRESS}:${port}`, `${serverPort}`, hold]);
  await answering(cluster, port);
  return {
    hold() {
      rmSync(`${hold}.reached`, { force: true });
      writeFileSync(hold, '');
    },
    letGo: () => rmSync(hold, { force: true }),
    isReached: () => existsSync(`${hold}.reached`),
    passedBytes: () => Number(readFileSync(`${hold}.passed`, 'utf8')),
  };
}

/** Receives one image. @returns a function that waits for it and returns its file */
export async function startTcpReceiver(cluster: NodeCluster): Promise<() => Promise<string>> {
  const file = path.join(cluster.directory, 'received-by-tcp.qcow2');
  const receiver = startOnNode(cluster, process.execPath, [BIN, 'receive', '--listen', `${NODE_ADDRESS}:${TCP_PORT}`, '--output', file]);
  const ended = once(receiver, 'exit');
  // The receiver would take a probe for its sender, so nothing checks whether it listens: the export retries.
  return async () => {
    const [code] = await ended;
    assert.equal(code, 0, 'the receiver has the image');
    return file;
  };
}
