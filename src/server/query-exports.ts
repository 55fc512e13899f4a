/** Which exports somebody wants to see, and in which order. */

import { DiskliftError } from '../common/errors.ts';
import type { ExportBoard } from './export-board.ts';
import { type ExportPhase, type ExportView, isOver } from './export-view.ts';

export interface ExportQuery {
  /** All of these words, anywhere in what is told of an export. */
  search: string;
  /** Any of these; all when empty. */
  phases: readonly ExportPhase[];
  namespace?: string | undefined;
  offset: number;
  limit: number;
}

export type PhaseCounts = Record<ExportPhase, number>;

export interface ExportPage {
  /** Of all exports, by phase. */
  counts: PhaseCounts;
  total: number;
  /** Exports that the query is about, of which `items` are some. */
  matched: number;
  items: ExportView[];
}

const PHASES: readonly ExportPhase[] = ['Pending', 'Scanning', 'Streaming', 'Verifying', 'Succeeded', 'Failed', 'Cancelled'];
const MOST_ITEMS = 200;
const DEFAULT_ITEMS = 50;
const LONGEST_SEARCH = 200;

/** @throws DiskliftError `InvalidRequest` for what cannot be understood */
export function parseQuery(params: URLSearchParams): ExportQuery {
  const search = params.get('search') ?? '';
  if (search.length > LONGEST_SEARCH) throw invalid(`search: ${LONGEST_SEARCH} characters at most`);
  const phases = params.getAll('phase').flatMap((value) => value.split(','));
  for (const phase of phases) if (!PHASES.includes(phase as ExportPhase)) throw invalid(`phase: one of ${PHASES.join(', ')}`);
  return {
    search,
    phases: phases as ExportPhase[],
    namespace: params.get('namespace') ?? undefined,
    offset: numberOf(params, 'offset', { least: 0, most: 1e6, absent: 0 }),
    limit: numberOf(params, 'limit', { least: 1, most: MOST_ITEMS, absent: DEFAULT_ITEMS }),
  };
}

function numberOf(params: URLSearchParams, name: string, { least, most, absent }: { least: number; most: number; absent: number }): number {
  const text = params.get(name);
  if (text === null) return absent;
  const value = /^\d{1,7}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw invalid(`${name}: a whole number from ${least} to ${most}`);
}

function invalid(message: string): DiskliftError {
  return new DiskliftError('InvalidRequest', message);
}

export function queryExports(board: Pick<ExportBoard, 'keys' | 'get'>, query: ExportQuery): ExportPage {
  const views = [...board.keys()].map((key) => board.get(key)).filter((view) => view !== undefined);
  const words = query.search.toLowerCase().split(/\s+/).filter(Boolean);
  const matching = views.filter((view) => isWanted(view, query) && words.every((word) => textOf(view).includes(word)));
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

function isWanted({ phase, namespace }: ExportView, query: ExportQuery): boolean {
  if (query.namespace !== undefined && namespace !== query.namespace) return false;
  return query.phases.length === 0 || query.phases.includes(phase);
}

const texts = new WeakMap<ExportView, string>();

function textOf(view: ExportView): string {
  let text = texts.get(view);
  if (text === undefined) {
    const { namespace, name, claim = '', destination, phase, reason = '', message = '', disks } = view;
    const paths = disks.map(({ path }) => path);
    text = [namespace, name, claim, destination?.kind, destination?.address, phase, reason, message, ...paths].join(' ').toLowerCase();
    texts.set(view, text);
  }
  return text;
}

/** What runs, what waits, what has ended last. */
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
