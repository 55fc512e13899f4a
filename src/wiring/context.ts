/** Every command receives this context instead of using the process directly. */

import type { Clock } from '../common/clock.ts';
import type { Limiter } from '../common/limiter.ts';
import type { Libc } from '../native/libc.ts';

export interface CommandContext {
  libc: Libc | undefined;
  readLimit: Limiter;
  clock: Clock;
  /** Aborted by SIGINT, SIGTERM and SIGHUP. */
  signal: AbortSignal;
  /** Writes one line to standard error. */
  warn(message: string): void;
}
