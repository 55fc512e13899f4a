/** Waiting until a descriptor takes bytes: poll(2), or time where poll is not to be had. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Libc } from './libc.ts';

const POLLOUT = 4;

/** An abort is noticed at the latest after this time. */
const SLICE_MS = 100;

/** Without poll: short enough to keep a pipe filled, long enough to leave a waiting process idle. */
const PORTABLE_SLICE_MS = 2;

/** Returns when `fd` can be written to, has an error, or a slice of time is over, whichever comes first. */
export async function waitWritable(libc: Libc | undefined, fd: number): Promise<void> {
  if (libc === undefined) await delay(PORTABLE_SLICE_MS);
  else await libc.poll(fd, POLLOUT, SLICE_MS);
}
