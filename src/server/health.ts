/** Answers for the liveness and readiness probes of Kubernetes. */

import { monitorEventLoopDelay } from 'node:perf_hooks';

export interface Health {
  /** @returns why the process must be restarted, or undefined; and facts for people */
  liveness(): { problem: string | undefined; facts: string };
  /** @returns why the process cannot serve requests now, or undefined */
  readiness(): Promise<string | undefined>;
}

export interface HealthOptions {
  /** Milliseconds since the store last reported its requests, by a monotonic clock. */
  silenceMs(): number | undefined;
  /** Why requests are not served and only a restart helps. */
  livenessProblem(): string | undefined;
  /** Why requests are not served now. */
  readinessProblem(): string | undefined;
  /** Why the volumes cannot be opened. Left out without volumes. */
  volumeProblem?: (() => Promise<string | undefined>) | undefined;
  signal: AbortSignal;
}

/** The measured delay is a fact for people only: while the event loop is blocked, no probe is answered at all. */
const RESOLUTION_MS = 20;

export function createHealth({ silenceMs, livenessProblem, readinessProblem, volumeProblem, signal }: HealthOptions): Health {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  signal.addEventListener('abort', () => delay.disable(), { once: true });

  return {
    liveness() {
      const delayMs = Math.max(0, delay.percentile(99) / 1e6 - RESOLUTION_MS);
      delay.reset();
      const silentMs = silenceMs();
      const watch = silentMs === undefined ? 'requests not known yet' : `requests known ${Math.round(silentMs / 1000)} s ago`;
      return { problem: livenessProblem(), facts: `event loop delay ${delayMs.toFixed(1)} ms at p99, ${watch}` };
    },
    readiness: async () => readinessProblem() ?? volumeProblem?.(),
  };
}
