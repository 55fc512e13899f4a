/** Whether the process is well, and whether it is of use: what the probes of Kubernetes are answered. */

import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Clock } from '../common/clock.ts';

export interface Health {
  /** @returns why the process should be started anew, or undefined; and what there is to tell of it */
  liveness(): { problem: string | undefined; facts: string };
  /** @returns why it is of no use now, or undefined */
  readiness(): Promise<string | undefined>;
}

export interface HealthOptions {
  clock: Pick<Clock, 'nowMs'>;
  /** When it was last known which requests there are, in milliseconds since the epoch. */
  lastSuccessMs(): number | undefined;
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

export function createHealth({ clock, lastSuccessMs, illness, unreadiness, volumeProblem, signal }: HealthOptions): Health {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  signal.addEventListener('abort', () => delay.disable(), { once: true });

  return {
    liveness() {
      const delayMs = Math.max(0, delay.percentile(99) / 1e6 - RESOLUTION_MS);
      delay.reset();
      const lastMs = lastSuccessMs();
      const watch = lastMs === undefined ? 'requests not known yet' : `requests known ${Math.round((clock.nowMs() - lastMs) / 1000)} s ago`;
      return { problem: illness(), facts: `event loop delay ${delayMs.toFixed(1)} ms at p99, ${watch}` };
    },
    readiness: async () => unreadiness() ?? volumeProblem(),
  };
}
