/** A signal that is aborted when something has taken too long. */

import type { Clock } from './clock.ts';
import { DiskliftError } from './errors.ts';

export interface TimeLimit {
  /** Aborted with `expired` when the time is up. */
  signal: AbortSignal;
  /** It was in time: `signal` stays as it is. */
  stop(): void;
}

export function startTimeLimit(clock: Clock, limitMs: number, expired: DiskliftError): TimeLimit {
  const [late, stopped] = [new AbortController(), new AbortController()];
  clock.delay(limitMs, stopped.signal).then(
    () => late.abort(expired),
    () => {},
  );
  return { signal: late.signal, stop: () => stopped.abort(new DiskliftError('Cancelled', 'in time')) };
}

export interface LaterLimit {
  clock: Clock;
  limitMs: number;
  expired: DiskliftError;
}

/** The same, from the moment on when `begin` is aborted. */
export function startTimeLimitAfter(begin: AbortSignal, { clock, limitMs, expired }: LaterLimit): TimeLimit {
  const late = new AbortController();
  let limit: TimeLimit | undefined;
  const onBegin = () => {
    limit = startTimeLimit(clock, limitMs, expired);
    limit.signal.addEventListener('abort', () => late.abort(expired), { once: true });
  };
  if (begin.aborted) onBegin();
  else begin.addEventListener('abort', onBegin, { once: true });
  return {
    signal: late.signal,
    stop() {
      begin.removeEventListener('abort', onBegin);
      limit?.stop();
    },
  };
}
