/** Failures of the service as errors of disklift. */

import { DiskliftError, type ErrorCode } from '../../../common/errors.ts';
import { oneLine, printable, truncated } from '../../../common/text.ts';

/** @returns `ChangesRefused`: another image has to be made */
export function refusedList(name: string, what: string, cause?: unknown): DiskliftError {
  return new DiskliftError('ChangesRefused', `${name}: the list of the SnapshotMetadata service cannot be used: ${what}`, cause);
}

interface StatusRow {
  code: ErrorCode;
  advice: string;
}

const LATER: StatusRow = { code: 'SourceReadError', advice: 'it may answer later' };

/** By the numbers of gRPC's codes. A code that is missing here may pass. */
const STATUS_ROWS: Readonly<Record<number, StatusRow>> = {
  3: { code: 'ChangesRefused', advice: 'it refuses the two snapshots' },
  5: { code: 'ChangesMissing', advice: 'the driver does not have the snapshot any more' },
  7: {
    code: 'SourcePermissionDenied',
    advice: "the worker's ServiceAccount needs the verb get for volumesnapshots; is the ClusterRole of the workers as in the manifests?",
  },
  9: { code: 'ChangesRefused', advice: 'the storage does not track changed blocks, or not of this volume' },
  11: { code: 'ChangesRefused', advice: 'it refuses the offset at which the list has to go on' },
  12: { code: 'ChangesRefused', advice: 'the driver has no such call' },
  16: {
    code: 'CredentialsInvalid',
    advice: "it does not accept the token; is the audience in the driver's SnapshotMetadataService right?",
  },
};

/** Codes by which a token may be renewed meanwhile. */
const UNAUTHENTICATED = 16;

export interface ServiceStatus {
  code: number;
  details: string;
}

/** Longest text of the service in a message. */
const MAX_DETAILS = 300;

/** @param name the snapshot, and @param address the service, in messages */
export function serviceError(name: string, address: string, { code, details }: ServiceStatus): DiskliftError {
  const row = STATUS_ROWS[code] ?? LATER;
  const said = truncated(printable(oneLine(details)), MAX_DETAILS) || 'no text';
  const message = `${name}: the SnapshotMetadata service ${address} answered ${statusName(code)}: ${said}; ${row.advice}`;
  // The kubelet may have replaced the token while the call was on its way.
  return new DiskliftError(row.code, message, undefined, code === UNAUTHENTICATED ? { retryable: true } : {});
}

const NAMES = [
  ...['OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS', 'PERMISSION_DENIED'],
  ...['RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS'],
  'UNAUTHENTICATED',
];

function statusName(code: number): string {
  return NAMES[code] ?? `code ${code}`;
}
