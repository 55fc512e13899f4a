/** FILE.partial.json: which image FILE.partial is the beginning of, and how much of it has reached the disk. */

import { open, readFile, rename, rm } from 'node:fs/promises';
import type { Hello } from './messages.ts';

export interface PartialState extends Required<Hello> {
  /** Survive a loss of power; what lies behind may not. */
  durableBytes: number;
}

/** @returns undefined when there is none, or none that makes sense */
export async function readPartialState(path: string): Promise<PartialState | undefined> {
  try {
    const state = JSON.parse(await readFile(path, 'utf8')) as Partial<Record<keyof PartialState, unknown>> | null;
    const { exportUid, disk, fingerprint, sizeBytes, durableBytes } = state ?? {};
    if (typeof exportUid !== 'string' || typeof disk !== 'string' || typeof fingerprint !== 'string') return undefined;
    if (!isCount(sizeBytes) || !isCount(durableBytes) || durableBytes > sizeBytes) return undefined;
    return { exportUid, disk, fingerprint, sizeBytes, durableBytes };
  } catch {
    return undefined;
  }
}

/** Whoever reads it finds the old state or the new one. */
export async function writePartialState(path: string, state: PartialState): Promise<void> {
  const draft = `${path}.new`;
  // A link that lies there is not followed.
  await rm(draft, { force: true });
  await using file = await open(draft, 'wx', 0o600);
  await file.writeFile(`${JSON.stringify(state)}\n`);
  await rename(draft, path);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
