/** How fast a number grows, over the last seconds. */

export interface RateMeter {
  /** Called often; looks at the clock once a call. */
  note(value: number): void;
  /** @returns what it grows by in a second; undefined as long as that cannot be told */
  perSecond(value: number): number | undefined;
}

const SAMPLE_MS = 500;
const SAMPLES = 20;
/** Before, a rate says more of chance than of the network. */
const SHORTEST_MS = 1000;

/** @param monotonicMs as {@link Clock.monotonicMs} */
export function createRateMeter(monotonicMs: () => number): RateMeter {
  let samples: { ms: number; value: number }[] = [];

  return {
    note(value) {
      const ms = monotonicMs();
      const last = samples.at(-1);
      // It begins anew with each attempt.
      if (last !== undefined && value < last.value) samples = [];
      else if (last !== undefined && ms - last.ms < SAMPLE_MS) return;
      samples.push({ ms, value });
      if (samples.length > SAMPLES) samples.shift();
    },
    perSecond(value) {
      const [oldest] = samples;
      if (oldest === undefined || value < oldest.value) return undefined;
      const elapsedMs = monotonicMs() - oldest.ms;
      return elapsedMs < SHORTEST_MS ? undefined : ((value - oldest.value) * 1000) / elapsedMs;
    },
  };
}
