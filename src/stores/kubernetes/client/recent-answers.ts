/** Answers that hold for a moment, so that the same question is not asked over and over. */

import type { Clock } from '../../../common/clock.ts';

export interface RecentAnswers<T> {
  /** What was answered lately, or what `ask` answers now. Who asks meanwhile waits for the same answer; a failure is not kept. */
  get(question: string, ask: () => Promise<T>): Promise<T>;
}

export interface RecentAnswersOptions {
  clock: Clock;
  /** Counted from when it was asked. */
  keptMs: number;
  /** How many are kept; the oldest goes first. */
  most: number;
}

export function createRecentAnswers<T>({ clock, keptMs, most }: RecentAnswersOptions): RecentAnswers<T> {
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
