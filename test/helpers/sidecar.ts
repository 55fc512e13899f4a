/** `disklift sidecar` as a process of its own, on a directory of manifests or an API server. */

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse, stringify } from 'yaml';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import type { Manifest } from './manifest.ts';
import { type Service, startService } from './service.ts';

const MAX_WAIT_MS = 30_000;
const POLL_MS = 50;

export interface SidecarOptions {
  /** The directory of manifests, which is made if it does not exist. Left out, `flags` name a cluster. */
  requests?: string;
  /** NAME=PATH */
  volumes: readonly string[];
  flags?: readonly string[];
  env?: Record<string, string> | undefined;
  /** The program that Node runs; the sources when left out. */
  program?: readonly string[] | undefined;
}

export type Sidecar = Service;

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

export async function startSidecar({ requests, volumes, flags = [], env, program }: SidecarOptions): Promise<Sidecar> {
  if (requests !== undefined) mkdirSync(requests, { recursive: true });
  const args = [
    ...['sidecar', '--listen-host', '127.0.0.1', '--listen-port', '0', '--allow-destination', '127.0.0.1'],
    ...(requests === undefined ? [] : ['--requests', requests]),
    ...volumes.flatMap((volume) => ['--volume', volume]),
    ...flags,
  ];
  return startService({ args, env, program, startMessage: 'sidecar runs' });
}
