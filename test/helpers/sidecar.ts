/** `disklift sidecar` as a process of its own, on a directory of manifests or an API server. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse, stringify } from 'yaml';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { hasEnded } from './has-ended.ts';
import type { Manifest } from './manifest.ts';

const BIN = path.join(import.meta.dirname, '..', '..', 'src', 'bin.ts');

const MAX_WAIT_MS = 30_000;
const POLL_MS = 50;

export interface SidecarOptions {
  /** The directory of manifests, which is made if it does not exist. Left out, `flags` name a cluster. */
  requests?: string;
  /** NAME=PATH */
  volumes: readonly string[];
  flags?: readonly string[];
  env?: Record<string, string>;
  /** The program that Node runs; the sources when left out. */
  program?: readonly string[];
}

export interface Sidecar extends AsyncDisposable {
  process: ChildProcess;
  /** Port of its pages, on loopback. */
  port: number;
  /** Its output so far. */
  output(): string;
  /** The lines of its log so far. */
  log(): Record<string, unknown>[];
  get(path: string): Promise<Response>;
  /** The values of a scrape, by series. */
  metrics(): Promise<Map<string, number>>;
  /** Its exit code, or the signal that ended it. */
  ended: Promise<number | NodeJS.Signals>;
  /** @returns as `ended` */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
}

/** Puts a manifest into the directory atomically, as `mv` does. */
export async function apply(requests: string, manifest: Manifest, ...others: object[]): Promise<string> {
  const file = path.join(requests, `${manifest.metadata.name}.yaml`);
  await writeFile(`${file}.new`, [manifest, ...others].map((each) => stringify(each)).join('---\n'));
  await rename(`${file}.new`, file);
  return file;
}

export function statusOf(requests: string, name: string): DiskExportStatus | undefined {
  try {
    return (parse(readFileSync(path.join(requests, `${name}.status.yaml`), 'utf8')) as { status: DiskExportStatus }).status;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Waits until the status fulfils `isRight`. */
export async function waitForStatus(
  requests: string,
  name: string,
  isRight: (status: DiskExportStatus) => boolean = (status) => status.completionTime !== undefined,
): Promise<DiskExportStatus> {
  let status: DiskExportStatus | undefined;
  for (let waitedMs = 0; waitedMs < MAX_WAIT_MS; waitedMs += POLL_MS) {
    status = statusOf(requests, name);
    if (status !== undefined && isRight(status)) return status;
    await sleep(POLL_MS);
  }
  return assert.fail(`${name}: still ${JSON.stringify(status)}`);
}

export async function startSidecar({ requests, volumes, flags = [], env = {}, program = [BIN] }: SidecarOptions): Promise<Sidecar> {
  if (requests !== undefined) mkdirSync(requests, { recursive: true });
  const args = [
    ...['sidecar', '--listen-host', '127.0.0.1', '--listen-port', '0', '--allow-destination', '127.0.0.1'],
    ...(requests === undefined ? [] : ['--requests', requests]),
    ...volumes.flatMap((volume) => ['--volume', volume]),
    ...flags,
  ];
  const child = spawn(process.execPath, [...program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const ended = exited.then(([code, signal]) => code ?? (signal as NodeJS.Signals));
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const log = () =>
    text
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  async function stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals> {
    if (!hasEnded(child)) child.kill(signal);
    return ended;
  }

  let port: number | undefined;
  for (let waitedMs = 0; port === undefined; waitedMs += POLL_MS) {
    if (hasEnded(child) || waitedMs > MAX_WAIT_MS) assert.fail(`the sidecar does not run: ${text}`);
    await sleep(POLL_MS);
    port = log().find(({ msg }) => msg === 'sidecar runs')?.port as number | undefined;
  }
  const get = (place: string) => fetch(`http://127.0.0.1:${port}${place}`);
  return {
    process: child,
    port,
    output: () => text,
    log,
    get,
    async metrics() {
      const lines = (await (await get('/metrics')).text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
      return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
    },
    ended,
    stop,
    async [Symbol.asyncDispose]() {
      await stop('SIGKILL');
    },
  };
}
