/** Whether the process is well, and whether it is of use: what the probes of Kubernetes are answered. */

import { monitorEventLoopDelay } from 'node:perf_hooks';

export interface Health {
  /** @returns why the process should be started anew, or undefined; and what there is to tell of it */
  liveness(): { problem: string | undefined; facts: string };
  /** @returns why it is of no use now, or undefined */
  readiness(): Promise<string | undefined>;
}

export interface HealthOptions {
  /** Milliseconds since the store last reported its requests, by a monotonic clock. */
  silenceMs(): number | undefined;
  /** Why requests are not served, and will not be by waiting. */
  illness(): string | undefined;
  /** Why requests are not served now. */
  unreadiness(): string | undefined;
  /** Why the volumes cannot be opened. */
  volumeProblem(): Promise<string | undefined>;
  signal: AbortSignal;
}

/** While the event loop stands still no probe is answered at all, so what is measured is told for people only. */
const RESOLUTION_MS = 20;

export function createHealth({ silenceMs, illness, unreadiness, volumeProblem, signal }: HealthOptions): Health {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  signal.addEventListener('abort', () => delay.disable(), { once: true });

  return {
    liveness() {
      const delayMs = Math.max(0, delay.percentile(99) / 1e6 - RESOLUTION_MS);
      delay.reset();
      const silentMs = silenceMs();
      const watch = silentMs === undefined ? 'requests not known yet' : `requests known ${Math.round(silentMs / 1000)} s ago`;
      return { problem: illness(), facts: `event loop delay ${delayMs.toFixed(1)} ms at p99, ${watch}` };
    },
    readiness: async () => unreadiness() ?? volumeProblem(),
  };
}
