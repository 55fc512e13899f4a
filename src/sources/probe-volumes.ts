/** Checks that the volumes can be opened: as directories, or as block devices. */

import fs from 'node:fs/promises';
import type { Clock } from '../common/clock.ts';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import { withinLimit } from '../common/time-limit.ts';

export interface ProbeOptions {
  clock: Clock;
  signal: AbortSignal;
  /** Opens the path and closes it again; node:fs when left out. */
  open?: (place: string) => Promise<void>;
}

/** The kubelet waits a second for the answer to a probe by default. */
const LIMIT_MS = 800;

/**
 * @returns a function that returns the reason why a volume cannot be opened; undefined when all can. While an attempt
 * hangs, the function waits for it and starts no other
 */
export function createVolumeProbe(
  volumes: ReadonlyMap<string, string>,
  { clock, signal, open = openAndClose }: ProbeOptions,
): () => Promise<string | undefined> {
  const looks = new Map<string, Promise<string | undefined>>();

  function look(claim: string, place: string): Promise<string | undefined> {
    let looking = looks.get(claim);
    if (looking === undefined) {
      looking = open(place)
        .then(
          () => undefined,
          (error: unknown) => `the volume of claim ${claim} cannot be opened: ${errnoOf(error) ?? error}`,
        )
        .finally(() => looks.delete(claim));
      looks.set(claim, looking);
    }
    return looking;
  }

  return async () => {
    for (const [claim, place] of volumes) {
      const late = () => new DiskliftError('SourceReadError', `the volume of claim ${claim} does not answer`);
      try {
        const problem = await withinLimit(look(claim, place), { limitMs: LIMIT_MS, clock, signal, late });
        if (problem !== undefined) return problem;
      } catch (error) {
        if (error instanceof DiskliftError) return error.message;
        throw error;
      }
    }
    return undefined;
  };
}

async function openAndClose(place: string): Promise<void> {
  const handle = await fs.open(place, 'r');
  await handle.close();
}
