/** Decides by tokens of the cluster who may read a sidecar's pages: TokenReview gives the user, SubjectAccessReview the rights. */

import { createHash } from 'node:crypto';
import type { Clock } from '../../../common/clock.ts';
import { createLimiter } from '../../../common/limiter.ts';
import { apiFailureOf } from './api-failure.ts';
import type { ApiReviews, ReviewedAction, ReviewedUser } from './contract.ts';

export interface TokenReviewerOptions {
  reviews: ApiReviews;
  /** Whose exports are told of. */
  namespace: string;
  clock: Clock;
  warn(message: string): void;
}

/** `unknown`: the token is nobody's. `unavailable`: the API server did not say. */
export type ReviewVerdict = 'allowed' | 'unknown' | 'forbidden' | 'unavailable';

export type ReviewedSubject = 'metrics' | 'exports';

/** So long a token that is withdrawn is still taken; beside it the API server remembers tokens itself, for as long. */
const KEPT_MS = 10_000;
/** Wrong tokens, too, are answers: whoever sends many costs memory for no more than these. */
const MAX_CACHED_ANSWERS = 512;
/** Nor do they get more of the API server's time. */
const MAX_CONCURRENT_REVIEWS = 4;
/** Of each of the two questions. Prometheus waits ten seconds for both. */
const LIMIT_MS = 4000;
/** No token that opens anything has fewer characters; one of a single letter would be found in any text. */
const MIN_SECRET_CHARACTERS = 8;

/**
 * Metrics are for who may get the path /metrics, as those of other programs are, and exports for who may list the DiskExports that they
 * are. Their path would tell nothing: all that is known to a cluster may get what begins with /api, by system:discovery.
 */
function actionsOf(namespace: string): Readonly<Record<ReviewedSubject, ReviewedAction>> {
  return {
    metrics: { nonResourceAttributes: { verb: 'get', path: '/metrics' } },
    exports: { resourceAttributes: { verb: 'list', group: 'disklift.dev', resource: 'diskexports', namespace } },
  };
}

/** @returns whether who has `token` may see `subject`; it does not fail, and neither tells of the token nor keeps it */
export function createTokenReviewer({
  reviews,
  namespace,
  clock,
  warn,
}: TokenReviewerOptions): (token: string, subject: ReviewedSubject) => Promise<ReviewVerdict> {
  const [users, permissions] = [
    createRecentAnswers<ReviewedUser | undefined>({ clock, keptMs: KEPT_MS, most: MAX_CACHED_ANSWERS }),
    createRecentAnswers<boolean>({ clock, keptMs: KEPT_MS, most: MAX_CACHED_ANSWERS }),
  ];
  const actions = actionsOf(namespace);
  const turns = createLimiter(MAX_CONCURRENT_REVIEWS);
  /** The kind of failure that was told of last; none while all is well. */
  let told = '';

  /** Once, not for each scrape, and not in the words of whoever sends tokens. */
  function tell(error: unknown, token: string): void {
    const kind = apiFailureOf(error)?.kind ?? 'other';
    if (kind === told) return;
    told = kind;
    const { message } = error as Error;
    // An answer may repeat what it was asked.
    const text = token.length < MIN_SECRET_CHARACTERS ? message : message.replaceAll(token, '***');
    const hint = kind === 'Forbidden' ? '; its ServiceAccount has to be bound to the ClusterRole system:auth-delegator' : '';
    warn(`whose a token is cannot be told: ${text}${hint}`);
  }

  return async (token, subject) => {
    const key = createHash('sha256').update(token).digest('base64');
    try {
      const user = await users.get(key, () => turns.run(() => reviews.authenticate(token, { limitMs: LIMIT_MS })));
      if (user === undefined) return 'unknown';
      const permits = () => turns.run(() => reviews.permits(user, actions[subject], { limitMs: LIMIT_MS }));
      const isAllowed = await permissions.get(`${key} ${subject}`, permits);
      told = '';
      return isAllowed ? 'allowed' : 'forbidden';
    } catch (error) {
      tell(error, token);
      return 'unavailable';
    }
  };
}

interface RecentAnswers<T> {
  /** What was answered lately, or what `ask` answers now. Who asks meanwhile waits for the same answer; a failure is not kept. */
  get(question: string, ask: () => Promise<T>): Promise<T>;
}

interface RecentAnswersOptions {
  clock: Clock;
  /** Counted from when it was asked. */
  keptMs: number;
  /** How many are kept; the oldest goes first. */
  most: number;
}

function createRecentAnswers<T>({ clock, keptMs, most }: RecentAnswersOptions): RecentAnswers<T> {
  // In the order in which they were asked.
  const known = new Map<string, { answer: Promise<T>; askedMs: number }>();

  function forgetOld(): void {
    for (const [question, { askedMs }] of known) {
      if (known.size <= most && clock.monotonicMs() - askedMs < keptMs) return;
      known.delete(question);
    }
  }

  return {
    async get(question, ask) {
      forgetOld();
      const last = known.get(question);
      if (last !== undefined) return last.answer;
      const entry = { answer: ask(), askedMs: clock.monotonicMs() };
      known.set(question, entry);
      forgetOld();
      try {
        return await entry.answer;
      } catch (error) {
        if (known.get(question) === entry) known.delete(question);
        throw error;
      }
    },
  };
}
