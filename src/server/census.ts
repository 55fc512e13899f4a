/** Counts of all exports that the store holds, as a scrape asks for them. Pure. */

import type { ExportCensus } from '../metrics/export-metrics.ts';
import type { ExportView } from './export-view.ts';

/** @param claims those that this process serves */
export function censusOf(views: Iterable<ExportView>, claims: { has(claim: string): boolean }): ExportCensus {
  const census = { pending: 0, unclaimed: 0, successes: [] as { namespace: string; claim: string; timeMs: number }[] };
  for (const { phase, isUnclaimed, claim, namespace, completionTime } of views) {
    if (isUnclaimed) census.unclaimed += 1;
    if (claim === undefined || !claims.has(claim)) continue;
    if (phase === 'Pending' && !isUnclaimed) census.pending += 1;
    if (phase === 'Succeeded' && completionTime !== undefined)
      census.successes.push({ namespace, claim, timeMs: Date.parse(completionTime) });
  }
  return census;
}
