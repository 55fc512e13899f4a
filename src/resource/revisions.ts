/** Requests from manifests of a directory: which edits of an accepted request count, and when a request was created. */

import { isDeepStrictEqual } from 'node:util';
import { type Clock, timestamp } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import type { DiskExport } from './disk-export.ts';
import { validateDiskExport, validateUpdate } from './validate.ts';

export interface RevisionsOptions {
  /** @returns the request as it was recorded, undefined before */
  accepted(key: string): DiskExport | undefined;
  clock: Pick<Clock, 'nowMs'>;
}

export class Revisions {
  private readonly options: RevisionsOptions;
  /** Time at which a request without a record was first seen. */
  private readonly seenMs = new Map<string, number>();

  constructor(options: RevisionsOptions) {
    this.options = options;
  }

  /** The first status of a request records it. Until then every call returns the time at which it was first seen. */
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

export interface Revision {
  /** The valid request; undefined for a new manifest that is not valid. */
  request: DiskExport | undefined;
  /** The error of the manifest, in one line. */
  problem?: string;
}

/**
 * Ignores an edit that the API server would refuse. Permitted changes of the same edit count all the same, so that an
 * export can always be cancelled.
 * @param accepted undefined for a manifest that is new
 * @param value the manifest as it is now
 * @param creationTimestamp of a request that is new
 */
function reviseRequest(accepted: DiskExport | undefined, value: unknown, creationTimestamp: string): Revision {
  let request: DiskExport;
  try {
    request = validateDiskExport(value);
  } catch (error) {
    if (!(error instanceof DiskliftError)) throw error;
    return { request: accepted, problem: accepted === undefined ? error.message : `${error.message}; the edit is ignored` };
  }
  if (accepted === undefined) return { request: { ...request, metadata: { ...request.metadata, creationTimestamp, generation: 1 } } };
  try {
    if (request.metadata.uid !== accepted.metadata.uid) throw new DiskliftError('InvalidRequest', 'metadata.uid: cannot be changed');
    validateUpdate(accepted, request);
    return { request: revised(accepted, request) };
  } catch (error) {
    if (!(error instanceof DiskliftError)) throw error;
    const how = 'to export anew, give the manifest another name, or take it away for a few seconds';
    return { request: revised(accepted, request), problem: `${error.message}. The edit is ignored; ${how}` };
  }
}

function revised(accepted: DiskExport, { metadata: { labels, annotations }, spec }: DiskExport): DiskExport {
  const { labels: _, annotations: __, generation = 1, ...rest } = accepted.metadata;
  const { ttlSecondsAfterFinished: ___, ...kept } = accepted.spec;
  const { ttlSecondsAfterFinished } = spec;
  const changed = {
    ...kept,
    cancel: accepted.spec.cancel || spec.cancel,
    ...(ttlSecondsAfterFinished === undefined ? {} : { ttlSecondsAfterFinished }),
  };
  const metadata = { ...rest, generation: isDeepStrictEqual(accepted.spec, changed) ? generation : generation + 1 };
  return {
    ...accepted,
    metadata: { ...metadata, ...(labels === undefined ? {} : { labels }), ...(annotations === undefined ? {} : { annotations }) },
    spec: changed,
  };
}
