/** Maps errors of a directory of requests that cannot be written to. */

import { DiskliftError, errnoOf } from '../../common/errors.ts';

/** Errors that an administrator must correct. */
const REFUSALS: Readonly<Record<string, string>> = {
  EROFS: 'it is mounted read-only; mount it writable, because statuses are written beside the manifests',
  EACCES: 'this user may not; give the directory to the user that runs disklift',
  EPERM: 'this user may not; give the directory to the user that runs disklift',
};

const TROUBLES: Readonly<Record<string, string>> = {
  ENOSPC: 'its file system is full; make room',
  EDQUOT: 'the quota is used up; make room',
  ENOENT: 'it is not there; is its volume mounted?',
};

/** @returns `StoreRefused`, or `StoreUnavailable` for an errno that may pass by itself; an error without an errno unchanged */
export function directoryError(place: string, error: unknown): unknown {
  const errno = errnoOf(error);
  if (errno === undefined) return error;
  const refusal = REFUSALS[errno];
  const why = refusal ?? TROUBLES[errno] ?? 'look at its storage';
  return new DiskliftError(
    refusal === undefined ? 'StoreUnavailable' : 'StoreRefused',
    `${place}: cannot be written to (${errno}): ${why}`,
    error,
  );
}
