/** An object that the API server does not accept, as the status of the export shows it. Pure. */

import { isStoreFailure } from '../common/errors.ts';
import { isApiFailure } from '../stores/kubernetes/client/api-failure.ts';
import type { Action, Report } from './decision.ts';
import type { Observed, PodProblem } from './observed.ts';

type Refusal = 'QuotaExceeded' | 'StoreRefused';

const REFUSALS: ReadonlySet<string> = new Set<Refusal>(['QuotaExceeded', 'StoreRefused']);

/** @returns the refusal of an earlier try to create an object: it stays in the status until the next try succeeds */
export function refusalBefore({ status }: Observed['request'], actions: readonly Action[] = []): PodProblem | undefined {
  const { reason = '', message = '' } = status?.conditions?.find(({ type }) => type === 'Succeeded') ?? {};
  return REFUSALS.has(reason) && actions.some(({ kind }) => kind === 'create') ? { reason, message } : undefined;
}

/** A refusal of an object shows on the export, and is retried until the source is late. */
export function refusalReport(
  error: unknown,
  actions: readonly Action[],
  { hasSlot, request, isTerminating, nowMs }: Observed,
): Report | undefined {
  if (isTerminating || request.status?.completionTime !== undefined) return undefined;
  if (!isStoreFailure(error) || error.code !== 'StoreRefused' || actions.length === 0) return undefined;
  const reason: Refusal = isApiFailure(error, 'QuotaExceeded') ? 'QuotaExceeded' : 'StoreRefused';
  const problem = { reason, message: error.message };
  return {
    ...problem,
    isProblem: true,
    sourceReady: { status: 'False', ...problem },
    ...(hasSlot ? { startMs: Date.parse(request.status?.startTime ?? '') || nowMs } : {}),
  };
}
