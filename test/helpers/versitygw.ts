/** versitygw: a real S3 server, which keeps objects as files. test/tools/go-tool.sh builds it. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './free-port.ts';

const VERSION = 'v1.8.0';

export const VERSITYGW_KEYS = { accessKeyId: 'versity-access', secretAccessKey: 'versity-secret' };

export interface Versitygw extends AsyncDisposable {
  url: string;
  port: number;
  pid: number;
  /** The file of an object. */
  objectPath(bucket: string, key: string): string;
}

/** The path of the program, which may not exist. */
export function versitygwPath(): string {
  const cache = process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache');
  return path.join(cache, 'disklift', `versitygw-${VERSION}`, 'versitygw');
}

/** Skips a suite with one loud line where versitygw was not built; fails it in CI. Call it in `before`. */
export function requireVersitygw(context: Mocha.Context): void {
  if (existsSync(versitygwPath())) return;
  const problem = `${versitygwPath()} is not there; make judges builds it where Go is`;
  if (process.env.CI) assert.fail(`tests with versitygw cannot run: ${problem}`);
  console.error(`    SKIPPED: tests with versitygw: ${problem}`);
  context.skip();
}

/** @param directory takes the objects @param buckets are made: names of three characters and more */
export async function startVersitygw(directory: string, ...buckets: string[]): Promise<Versitygw> {
  for (const bucket of buckets) mkdirSync(path.join(directory, bucket), { recursive: true });
  const port = await freePort();
  const { accessKeyId, secretAccessKey } = VERSITYGW_KEYS;
  const args = ['--access', accessKeyId, '--secret', secretAccessKey, '--port', `127.0.0.1:${port}`, '--quiet', 'posix', directory];
  const child = spawn(versitygwPath(), args, { stdio: 'ignore' });
  const exited = once(child, 'exit');
  await answering(port, exited);
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    pid: child.pid as number,
    objectPath: (bucket, key) => path.join(directory, bucket, key),
    async [Symbol.asyncDispose]() {
      child.kill();
      await exited;
    },
  };
}

/** It does not report when it is ready, so requests are sent until one is answered. */
async function answering(port: number, exited: Promise<unknown[]>): Promise<void> {
  let hasExited = false;
  exited.then(() => {
    hasExited = true;
  });
  for (const endMs = performance.now() + 20_000; performance.now() < endMs; await sleep(20)) {
    if (hasExited) break;
    const socket = net.connect(port, '127.0.0.1');
    const isUp = await new Promise<boolean>((resolve) => socket.once('connect', () => resolve(true)).once('error', () => resolve(false)));
    socket.destroy();
    if (isUp) return;
  }
  assert.fail('versitygw does not answer');
}
