/** The last good export of each claim. It outlives the DiskExport, which may be deleted. */

import type { Metrics } from './create-registry.ts';

interface Success {
  namespace: string;
  claim: string;
  /** Milliseconds since the epoch. */
  timeMs: number;
}

export interface LastSuccess {
  /** An earlier success than the one that is known changes nothing. */
  set(success: Success): void;
}

export function createLastSuccess({ lastSuccess }: Pick<Metrics, 'lastSuccess'>): LastSuccess {
  const known = new Map<string, number>();

  return {
    set({ namespace, claim, timeMs }) {
      const key = `${namespace}/${claim}`;
      if (timeMs <= (known.get(key) ?? -1)) return;
      known.set(key, timeMs);
      lastSuccess.set({ export_namespace: namespace, claim }, timeMs / 1000);
    },
  };
}
