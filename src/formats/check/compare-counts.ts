/** Compares the refcounts of an image with the number of entries that use each cluster. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ImageProblem, Problems } from './problems.ts';

export interface ComparedCounts {
  /** Number of the first cluster. */
  first: number;
  /** How many entries use each cluster. */
  counts: Uint16Array;
  /** The refcounts. */
  stored: Uint16Array;
  clusterSizeBytes: number;
  problems: Problems;
  /** Receives the ranges whose users are to be named. */
  wrong: WrongRange[];
}

/** Ranges whose users are named. */
const MAX_NAMED_RANGES = 20;
const MAX_NAMED_USERS = 4;

/** Clusters whose refcounts are too low. */
export class WrongRange {
  readonly start: number;
  readonly end: number;
  private readonly problem: ImageProblem;
  private userCount = 0;

  /** @param start in the file, inclusive @param end exclusive */
  constructor(start: number, end: number, problem: ImageProblem) {
    this.start = start;
    this.end = end;
    this.problem = problem;
  }

  addUser(user: string): void {
    this.userCount += 1;
    if (this.userCount > MAX_NAMED_USERS + 1) return;
    const shown = this.userCount > MAX_NAMED_USERS ? 'and more' : user;
    this.problem.message += this.userCount === 1 ? `; it holds ${shown}` : `, ${shown}`;
  }
}

/** Clusters that are compared in a row: about a millisecond. */
const IN_A_ROW = 1_000_000;

/** Neighbours with the same counts are one problem. */
export async function compareCounts({ first, counts, stored, clusterSizeBytes, problems, wrong }: ComparedCounts): Promise<void> {
  for (let index = 0; index < counts.length; index += 1) {
    if (index % IN_A_ROW === 0) await nextTurn();
    const [count, refcount] = [counts[index] as number, stored[index] as number];
    if (count === refcount) continue;
    const begin = index;
    while (counts[index + 1] === count && stored[index + 1] === refcount) index += 1;
    report({ start: (first + begin) * clusterSizeBytes, end: (first + index + 1) * clusterSizeBytes, count, refcount });
  }

  function report({ start, end, count, refcount }: { start: number; end: number; count: number; refcount: number }): void {
    const clusters = (end - start) / clusterSizeBytes;
    const what = clusters === 1 ? `the cluster at offset ${start} has` : `${clusters} clusters from offset ${start} on have`;
    if (refcount > count) {
      problems.add({
        kind: 'leaked',
        offset: start,
        message: `${what} the refcount ${refcount}, and ${times(count)} ${count > 1 ? 'use' : 'uses'} it`,
      });
      return;
    }
    const keptBefore = problems.kept.length;
    problems.add({
      kind: 'corrupt',
      offset: start,
      message: `${what} the refcount ${refcount}, and ${times(count)} ${count > 1 ? 'use' : 'uses'} it`,
    });
    const kept = problems.kept[keptBefore];
    if (kept !== undefined && wrong.length < MAX_NAMED_RANGES) wrong.push(new WrongRange(start, end, kept));
  }
}

function times(count: number): string {
  return count === 0 ? 'nothing' : count === 1 ? 'one entry' : `${count} entries`;
}
