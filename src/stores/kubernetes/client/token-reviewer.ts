/**
 * Decides by tokens of the cluster who may read the pages of a sidecar or a controller: TokenReview gives the user,
 * SubjectAccessReview the rights.
 */

import { createHash } from 'node:crypto';
import type { Clock } from '../../../common/clock.ts';
import { createLimiter } from '../../../common/limiter.ts';
import { apiFailureOf } from './api-failure.ts';
import { ALL_NAMESPACES, type ApiReviews, type ReviewedAction, type ReviewedUser, scopesOf } from './contract.ts';

export interface TokenReviewerOptions {
  reviews: ApiReviews;
  /** Rights that a user needs, all of them, to read what the pages show. */
  exports: readonly ReviewedAction[];
  clock: Clock;
  warn(message: string): void;
}

/** `unknown`: the token belongs to no user. `unavailable`: the API server did not answer. */
export type ReviewVerdict = 'allowed' | 'unknown' | 'forbidden' | 'unavailable';

export type ReviewedSubject = 'metrics' | 'exports';

/** A withdrawn token is accepted for this long. The API server itself caches tokens for as long again. */
const KEPT_MS = 10_000;
/** Answers about wrong tokens are cached too. This bounds the memory that a client with many wrong tokens can use. */
const MAX_CACHED_ANSWERS = 512;
/** Bounds the load that such a client causes at the API server. */
const MAX_CONCURRENT_REVIEWS = 4;
/** Time limit of each of the two reviews. Prometheus waits ten seconds for both. */
const LIMIT_MS = 4000;
/** Real tokens are longer. A token of one letter would be replaced all over the message. */
const MIN_SECRET_CHARACTERS = 8;

/** As in other programs. */
const METRICS: readonly ReviewedAction[] = [{ nonResourceAttributes: { verb: 'get', path: '/metrics' } }];

/**
 * Rights to list these resources in each of the namespaces. The path of the exports would prove nothing:
 * system:discovery lets every user get paths beneath /api.
 * @param namespaces empty: in the whole cluster
 */
export function listsOf(resources: readonly string[], namespaces: readonly string[]): ReviewedAction[] {
  return scopesOf(namespaces).flatMap((namespace) =>
    resources.map((resource) => ({
      resourceAttributes: { verb: 'list', group: 'disklift.dev', resource, ...(namespace === ALL_NAMESPACES ? {} : { namespace }) },
    })),
  );
}

/** @returns whether the user of `token` may read `subject`. Never fails; neither logs nor stores the token. */
export function createTokenReviewer({
  reviews,
  exports,
  clock,
  warn,
}: TokenReviewerOptions): (token: string, subject: ReviewedSubject) => Promise<ReviewVerdict> {
  const [users, permissions] = [
    createRecentAnswers<ReviewedUser | undefined>({ clock, keptMs: KEPT_MS, most: MAX_CACHED_ANSWERS }),
    createRecentAnswers<boolean>({ clock, keptMs: KEPT_MS, most: MAX_CACHED_ANSWERS }),
  ];
  const actions: Readonly<Record<ReviewedSubject, readonly ReviewedAction[]>> = { metrics: METRICS, exports };
  const turns = createLimiter(MAX_CONCURRENT_REVIEWS);
  /** Kind of the last failure that was logged; empty after a success. */
  let warned = '';

  /** Logs a kind of failure once, not for each scrape, and never with the token. */
  function warnOnce(error: unknown, token: string): void {
    const kind = apiFailureOf(error)?.kind ?? 'other';
    if (kind === warned) return;
    warned = kind;
    const { message } = error as Error;
    // The answer may repeat the token.
    const text = token.length < MIN_SECRET_CHARACTERS ? message : message.replaceAll(token, '***');
    const hint = kind === 'Forbidden' ? '; its ServiceAccount has to be bound to the ClusterRole system:auth-delegator' : '';
    warn(`the user of a token cannot be determined: ${text}${hint}`);
  }

  return async (token, subject) => {
    const key = createHash('sha256').update(token).digest('base64');
    try {
      const user = await users.get(key, () => turns.run(() => reviews.authenticate(token, { limitMs: LIMIT_MS })));
      if (user === undefined) return 'unknown';
      const permits = async () => {
        const answers = actions[subject].map((action) => turns.run(() => reviews.permits(user, action, { limitMs: LIMIT_MS })));
        return (await Promise.all(answers)).every(Boolean);
      };
      const isAllowed = await permissions.get(`${key} ${subject}`, permits);
      warned = '';
      return isAllowed ? 'allowed' : 'forbidden';
    } catch (error) {
      warnOnce(error, token);
      return 'unavailable';
    }
  };
}

interface RecentAnswers<T> {
  /** Returns a recent answer, or calls `ask`. Concurrent callers share one call. A failure is not cached. */
  get(question: string, ask: () => Promise<T>): Promise<T>;
}

interface RecentAnswersOptions {
  clock: Clock;
  /** Counted from the call. */
  keptMs: number;
  /** Number of cached answers. The oldest is dropped first. */
  most: number;
}

function createRecentAnswers<T>({ clock, keptMs, most }: RecentAnswersOptions): RecentAnswers<T> {
  // In the order of the calls.
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
