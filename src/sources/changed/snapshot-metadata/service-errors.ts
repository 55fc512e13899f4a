/** Failures of the service as errors of disklift. */

import { DiskliftError, type ErrorCode } from '../../../common/errors.ts';
import { oneLine, printable, truncated } from '../../../common/text.ts';

/**
 * Why there is no list that could be used. The words are reasons of the status: ChangesMissing, where the base or its
 * data is gone; ChangesRefused, where the driver refuses or its list is wrong.
 */
export type NoList = 'ChangesMissing' | 'ChangesRefused';

/** A failure that another try does not repair: an image has to be made without the list. */
export class NoListError extends DiskliftError {
  readonly reason: NoList;

  constructor(reason: NoList, message: string, cause?: unknown) {
    super('SourceReadError', message, cause, { retryable: false });
    this.reason = reason;
  }
}

export function refusedList(name: string, what: string): NoListError {
  return new NoListError('ChangesRefused', `${name}: the list of the SnapshotMetadata service cannot be used: ${what}`);
}

interface StatusRow {
  /** Undefined: the same call may succeed later. */
  noList?: NoList;
  code: ErrorCode;
  advice: string;
}

const LATER: StatusRow = { code: 'SourceReadError', advice: 'it may answer later' };

/** By the numbers of gRPC's codes. A code that is missing here may pass. */
const STATUS_ROWS: Readonly<Record<number, StatusRow>> = {
  3: { noList: 'ChangesRefused', code: 'SourceReadError', advice: 'it refuses the two snapshots' },
  5: { noList: 'ChangesMissing', code: 'SourceReadError', advice: 'the driver does not have the snapshot any more' },
  7: {
    code: 'SourcePermissionDenied',
    advice: "the worker's ServiceAccount needs the verb get for volumesnapshots; is the ClusterRole of the workers as in the manifests?",
  },
  9: { noList: 'ChangesRefused', code: 'SourceReadError', advice: 'the storage does not track changed blocks, or not of this volume' },
  11: { noList: 'ChangesRefused', code: 'SourceReadError', advice: 'it refuses the offset at which the list has to go on' },
  12: { noList: 'ChangesRefused', code: 'SourceReadError', advice: 'the driver has no such call' },
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
  if (row.noList !== undefined) return new NoListError(row.noList, message);
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
