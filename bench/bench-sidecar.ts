/** A sidecar that exports a disk of the bench, one request after the other, from a directory. */

import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasEnded } from '../test/helpers/has-ended.ts';
import { apply, startSidecar } from '../test/helpers/sidecar.ts';
import { benchRequest, benchVolume } from './bench-request.ts';

const BIN = path.join(import.meta.dirname, '..', 'dist', 'bin.js');
const POLL_MS = 100;

export interface BenchSidecar {
  pid: number;
  /** URL of its status page and metrics. */
  port: number;
  /** @returns the duration of the export, in seconds from its claim to its end, by the sidecar's log */
  exportTo(name: string, destination: object, checksum?: string): Promise<number>;
  stop(): Promise<void>;
}

export interface BenchSidecarOptions {
  disk: string;
  flags?: readonly string[];
  nodeFlags?: readonly string[];
  env?: Record<string, string>;
}

export async function startBenchSidecar({ disk, flags = [], nodeFlags = [], env = {} }: BenchSidecarOptions): Promise<BenchSidecar> {
  if (!existsSync(BIN)) throw new Error('dist/bin.js is missing; run `make build` first');
  const requests = mkdtempSync(path.join(os.tmpdir(), 'disklift-bench-'));
  const sidecar = await startSidecar({ requests, volumes: [benchVolume(disk)], flags, env, program: [...nodeFlags, BIN] });

  /** The log line of the export with this message, if any. */
  function logLineOf(name: string, what: string): { timeMs: number; phase: unknown } | undefined {
    const line = sidecar.log().find(({ msg, export: of }) => msg === what && of === name);
    return line && { timeMs: Date.parse(line.time as string), phase: line.phase };
  }

  return {
    pid: sidecar.process.pid as number,
    port: sidecar.port,
    async exportTo(name, destination, checksum = 'SHA256') {
      await apply(requests, benchRequest(name, disk, destination, checksum));
      let ended = logLineOf(name, 'export has ended');
      for (; ended === undefined; ended = logLineOf(name, 'export has ended')) {
        if (hasEnded(sidecar.process)) throw new Error(`the sidecar has ended: ${sidecar.output()}`);
        await sleep(POLL_MS);
      }
      if (ended.phase !== 'Succeeded') throw new Error(`${name}: ${ended.phase}: ${sidecar.output()}`);
      return (ended.timeMs - (logLineOf(name, 'export claimed')?.timeMs ?? Number.NaN)) / 1000;
    },
    async stop() {
      // It still writes a final status.
      await sidecar.stop();
      rmSync(requests, { recursive: true, force: true });
    },
  };
}
