/** Selects, orders and counts the exports of the registry. */

import { DiskliftError } from '../common/errors.ts';
import type { ExportCensus } from '../metrics/export-metrics.ts';
import type { ShownExports } from './export-registry.ts';
import { type ExportPhase, type ExportView, isOver } from './export-view.ts';

export interface ExportQuery {
  /** The texts of an export must contain all of these words. */
  search: string;
  /** All phases when empty. */
  phases: readonly ExportPhase[];
  namespace?: string | undefined;
  offset: number;
  limit: number;
}

export type PhaseCounts = Record<ExportPhase, number>;

export interface ExportPage {
  /** All exports by phase. */
  counts: PhaseCounts;
  total: number;
  /** Exports that match the query; `items` is one page of them. */
  matched: number;
  items: ExportView[];
}

const PHASES: readonly ExportPhase[] = ['Pending', 'Scanning', 'Streaming', 'Verifying', 'Succeeded', 'Failed', 'Cancelled'];
const MAX_ITEMS = 200;
const DEFAULT_ITEMS = 50;
const MAX_SEARCH_CHARACTERS = 200;

/** @throws DiskliftError `InvalidRequest` for an invalid parameter */
export function parseQuery(params: URLSearchParams): ExportQuery {
  const search = params.get('search') ?? '';
  if (search.length > MAX_SEARCH_CHARACTERS) throw invalid(`search: ${MAX_SEARCH_CHARACTERS} characters at most`);
  const phases = params.getAll('phase').flatMap((value) => value.split(','));
  for (const phase of phases) if (!PHASES.includes(phase as ExportPhase)) throw invalid(`phase: one of ${PHASES.join(', ')}`);
  return {
    search,
    phases: phases as ExportPhase[],
    namespace: params.get('namespace') ?? undefined,
    offset: numberOf(params, 'offset', { min: 0, max: 1e6, absent: 0 }),
    limit: numberOf(params, 'limit', { min: 1, max: MAX_ITEMS, absent: DEFAULT_ITEMS }),
  };
}

function numberOf(params: URLSearchParams, name: string, { min, max, absent }: { min: number; max: number; absent: number }): number {
  const text = params.get(name);
  if (text === null) return absent;
  const value = /^\d{1,7}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw invalid(`${name}: a whole number from ${min} to ${max}`);
}

function invalid(message: string): DiskliftError {
  return new DiskliftError('InvalidRequest', message);
}

export function queryExports(registry: Pick<ShownExports, 'keys' | 'get'>, query: ExportQuery): ExportPage {
  const views = [...registry.keys()].map((key) => registry.get(key)).filter((view) => view !== undefined);
  const words = query.search.toLowerCase().split(/\s+/).filter(Boolean);
  const matching = views.filter((view) => matches(view, query) && words.every((word) => textOf(view).includes(word)));
  matching.sort(byUrgency);
  return {
    counts: countPhases(views),
    total: views.length,
    matched: matching.length,
    items: matching.slice(query.offset, query.offset + query.limit),
  };
}

export function countPhases(views: Iterable<ExportView>): PhaseCounts {
  const counts = Object.fromEntries(PHASES.map((phase) => [phase, 0])) as PhaseCounts;
  for (const { phase } of views) counts[phase] += 1;
  return counts;
}

function matches({ phase, namespace }: ExportView, query: ExportQuery): boolean {
  if (query.namespace !== undefined && namespace !== query.namespace) return false;
  return query.phases.length === 0 || query.phases.includes(phase);
}

const texts = new WeakMap<ExportView, string>();

function textOf(view: ExportView): string {
  let text = texts.get(view);
  if (text === undefined) {
    const { namespace, name, source, destination, phase, reason = '', message = '', disks } = view;
    const paths = disks.map(({ path }) => path);
    text = [namespace, name, source?.name, destination?.kind, destination?.address, phase, reason, message, ...paths]
      .join(' ')
      .toLowerCase();
    texts.set(view, text);
  }
  return text;
}

/** Running exports first, then waiting ones, then ended ones with the latest first. */
function byUrgency(a: ExportView, b: ExportView): number {
  const order = rankOf(a) - rankOf(b);
  if (order !== 0) return order;
  const [timeA, timeB] = [a.completionTime ?? '', b.completionTime ?? ''];
  if (timeA !== timeB) return timeA < timeB ? 1 : -1;
  const [keyA, keyB] = [`${a.namespace}/${a.name}`, `${b.namespace}/${b.name}`];
  return keyA < keyB ? -1 : keyA > keyB ? 1 : 0;
}

function rankOf({ phase }: ExportView): number {
  return isOver(phase) ? 2 : phase === 'Pending' ? 1 : 0;
}

/** Counts of all exports for a scrape. @param claims that this process serves */
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
