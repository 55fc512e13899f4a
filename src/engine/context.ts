/** What an export is given by whoever has it run. */

import type { Clock } from '../common/clock.ts';
import type { Slot } from './export-slots.ts';
import type { ExportObserver } from './observer.ts';

/** Whoever keeps the request: a way to make sure of the claim, and one to have the states survive this process. */
export interface ExportKeeper {
  /** Awaited before anything irreversible. @throws DiskliftError `ExecutorLost` when the export is somebody else's by now */
  assertHeld(): Promise<void>;
  /** Resolves when the states of the disks as they are now would survive the death of this process. */
  save(): Promise<void>;
}

export interface EngineContext {
  /** Aborted with `ExecutorLost`, everything stays as it is for another process to go on with. */
  signal: AbortSignal;
  /** Aborted when the process must end; then the next process cleans up. Left out where no process follows. */
  stopping?: AbortSignal | undefined;
  keeper: ExportKeeper;
  /** Held. Left out where the number of exports that run at a time has no limit. */
  slot?: Slot | undefined;
  clock: Clock;
  /** Gives numbers from 0 up to, and not with, 1. */
  random(): number;
  observer: ExportObserver;
  /** Takes one line about what is worth knowing but stops nothing. */
  warn(message: string): void;
}
