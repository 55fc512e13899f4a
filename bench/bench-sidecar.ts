/** A sidecar that exports a disk of the bench, request by request out of a directory. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';

const BIN = path.join(import.meta.dirname, '..', 'dist', 'bin.js');

export interface BenchSidecar {
  pid: number;
  /** Of its status page and metrics. */
  port: number;
  /** @returns how long the export took, in seconds from its claim to its end, as the sidecar tells it */
  exportTo(name: string, destination: object, checksum?: string): Promise<number>;
  stop(): Promise<void>;
}

export interface BenchSidecarOptions {
  disk: string;
  flags?: readonly string[];
  nodeFlags?: readonly string[];
  environment?: Record<string, string>;
}

interface LogLine {
  time: string;
  msg: string;
  export?: string;
  port?: number;
  phase?: string;
}

export async function startBenchSidecar({
  disk,
  flags = [],
  nodeFlags = [],
  environment = {},
}: BenchSidecarOptions): Promise<BenchSidecar> {
  if (!existsSync(BIN)) throw new Error('dist/bin.js is missing; run `make build` first');
  const requests = mkdtempSync(path.join(os.tmpdir(), 'disklift-bench-'));
  const local = ['--listen-host', '127.0.0.1', '--listen-port', '0', '--allow-destination', '127.0.0.1'];
  const args = ['sidecar', '--requests', requests, '--volume', `bench=${path.dirname(disk)}`, ...local, ...flags];
  const sidecar = spawn(process.execPath, [...nodeFlags, BIN, ...args], {
    stdio: ['ignore', 'inherit', 'pipe'],
    env: { ...process.env, ...environment },
  });
  const port = Promise.withResolvers<number>();
  const claimed = new Map<string, number>();
  const running = new Map<string, PromiseWithResolvers<number>>();

  createInterface(sidecar.stderr).on('line', (text) => {
    const { msg, time, export: name = '', phase, port: listens = 0 } = JSON.parse(text) as LogLine;
    if (msg === 'sidecar runs') port.resolve(listens);
    if (msg === 'export claimed') claimed.set(name, Date.parse(time));
    if (msg !== 'export has ended') return;
    if (phase === 'Succeeded') running.get(name)?.resolve((Date.parse(time) - (claimed.get(name) ?? Number.NaN)) / 1000);
    else running.get(name)?.reject(new Error(`${name}: ${phase}`));
  });
  sidecar.once('exit', () => {
    for (const { reject } of [port, ...running.values()]) reject(new Error('the sidecar has ended'));
  });

  return {
    pid: sidecar.pid as number,
    port: await port.promise,
    exportTo(name, destination, checksum = 'SHA256') {
      const source = { persistentVolumeClaim: { claimName: 'bench' }, disks: [{ path: path.basename(disk) }] };
      const spec = { source, destination, checksum, backoffLimit: 0 };
      const request = { apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport', metadata: { name, namespace: 'bench' }, spec };
      const ended = Promise.withResolvers<number>();
      running.set(name, ended);
      const file = path.join(requests, `${name}.yaml`);
      writeFileSync(`${file}.new`, JSON.stringify(request));
      renameSync(`${file}.new`, file);
      return ended.promise;
    },
    async stop() {
      // It writes a last status yet.
      sidecar.kill();
      if (sidecar.exitCode === null) await once(sidecar, 'exit');
      rmSync(requests, { recursive: true, force: true });
    },
  };
}
