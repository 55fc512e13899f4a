/** What has ended stays for a while, and not more of it than a scrape should have to carry. */

import type { Clock } from '../common/clock.ts';

export interface Retention {
  /** @param size how much it is, in disks @param forget called once, when it has stayed long enough or others need its place */
  keep(key: string, size: number, forget: () => void): void;
  /** Forgets it now, if it is there. */
  forget(key: string): void;
}

export interface RetentionOptions {
  clock: Clock;
  retentionMs: number;
  signal: AbortSignal;
}

/** Eight series each. */
const MOST_DISKS = 1000;

export function createRetention({ clock, retentionMs, signal }: RetentionOptions): Retention {
  /** The oldest first. */
  const kept = new Map<string, { size: number; forget(): void }>();
  let keptSize = 0;

  function forget(key: string): void {
    const entry = kept.get(key);
    if (entry === undefined) return;
    kept.delete(key);
    keptSize -= entry.size;
    entry.forget();
  }

  return {
    forget,
    keep(key, size, forgetIt) {
      forget(key);
      const entry = { size: Math.max(1, size), forget: forgetIt };
      kept.set(key, entry);
      keptSize += entry.size;
      for (const oldest of kept.keys()) if (keptSize > MOST_DISKS && oldest !== key) forget(oldest);
      clock.delay(retentionMs, signal).then(
        () => {
          if (kept.get(key) === entry) forget(key);
        },
        () => {},
      );
    },
  };
}
