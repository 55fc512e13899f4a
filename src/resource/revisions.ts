/** Requests from the manifests of a directory, and the time at which each was created. */

import type { Clock } from '../common/clock.ts';
import type { DiskExport } from './disk-export.ts';
import { type Revision, reviseRequest } from './revise-request.ts';
import { timestamp } from './timestamp.ts';

export interface RevisionsOptions {
  /** @returns the request as it was recorded, undefined before */
  accepted(key: string): DiskExport | undefined;
  clock: Pick<Clock, 'nowMs'>;
}

export class Revisions {
  private readonly options: RevisionsOptions;
  /** When a request was seen first that is not recorded yet. */
  private readonly seenMs = new Map<string, number>();

  constructor(options: RevisionsOptions) {
    this.options = options;
  }

  /** A request is recorded with its first status. It is seen several times before, and keeps the time of the first. */
  of(key: string, value: unknown): Revision {
    const accepted = this.options.accepted(key);
    const seenMs = this.seenMs.get(key) ?? this.options.clock.nowMs();
    if (accepted === undefined) this.seenMs.set(key, seenMs);
    else this.seenMs.delete(key);
    return reviseRequest(accepted, value, timestamp(seenMs));
  }

  forget(key: string): void {
    this.seenMs.delete(key);
  }
}
