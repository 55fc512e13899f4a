/** The one error class of disklift and its codes. */

/**
 * Why an image cannot be an incremental one.
 * - `BaseMissing`: the base, or its receipt, is not at the destination.
 * - `BaseChanged`: the base is another file than the one of its receipt.
 * - `ReceiptInvalid`: the receipt or the tracker cannot be used.
 * - `OtherDisk`: the base is an image of another disk.
 * - `DiskShrank`: the disk is smaller than in the base.
 * - `ChainTooLong`: the base has so many images below it that readers refuse another one.
 * - `ChangesMissing`: nothing is left that shows what has changed since the base.
 * - `ChangesRefused`: the map of changes has a gap, or its source refuses it.
 */
export const BASE_FAILURES = [
  ...(['BaseMissing', 'BaseChanged', 'ReceiptInvalid', 'OtherDisk', 'DiskShrank'] as const),
  ...(['ChainTooLong', 'ChangesMissing', 'ChangesRefused'] as const),
];

export type BaseFailure = (typeof BASE_FAILURES)[number];

/** Why an export failed. The same words are the reasons of a DiskExport's conditions. */
export type ErrorCode =
  | 'InvalidRequest'
  | 'SourceNotFound'
  | 'SourcePermissionDenied'
  | 'SourceReadError'
  | 'SourceChanged'
  | 'SourceInUse'
  | 'InUseUnknown'
  | 'FormatUnsupported'
  | 'ImageTooLarge'
  | 'DestinationNotAllowed'
  | 'DestinationRejected'
  | 'DestinationUnreachable'
  | 'CredentialsInvalid'
  | 'ReferenceInvalid'
  | 'ChecksumMismatch'
  | 'DeadlineExceeded'
  | 'StoreUnavailable'
  | 'StoreRefused'
  | 'ExecutorLost'
  | 'ExecutorCrashed'
  | 'Cancelled'
  | BaseFailure;

const RETRYABLE: ReadonlySet<ErrorCode> = new Set([
  'SourceReadError',
  'SourceChanged',
  'DestinationUnreachable',
  'ChecksumMismatch',
  'StoreUnavailable',
  'StoreRefused',
]);

export interface ErrorFacts {
  /** Overrides the default of the code: a server that rejects an image may accept it later. */
  retryable?: boolean | undefined;
  /** Shortest wait that the peer requires before the next request. */
  retryAfterMs?: number | undefined;
  /** True when the export has ended with this failure: another process would not run it again. */
  isOutcome?: boolean | undefined;
}

/** A failure with a stable `code`; match on that, never on the text. `message` is one line fit for a person. */
export class DiskliftError extends Error {
  override readonly name = 'DiskliftError';
  readonly code: ErrorCode;
  /** Whether the same request may succeed when it is tried again. */
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly isOutcome: boolean;

  constructor(code: ErrorCode, message: string, cause?: unknown, { retryable, retryAfterMs, isOutcome = false }: ErrorFacts = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.retryable = retryable ?? RETRYABLE.has(code);
    this.retryAfterMs = retryAfterMs;
    this.isOutcome = isOutcome;
  }
}

/**
 * Whether the store of requests (API server or directory) does not answer, or refuses. The export itself may be fine.
 */
export function isStoreFailure(error: unknown): error is DiskliftError & { code: 'StoreUnavailable' | 'StoreRefused' } {
  return error instanceof DiskliftError && (error.code === 'StoreUnavailable' || error.code === 'StoreRefused');
}

/** Whether an image is not possible as an incremental one; a full image may be. */
export function isBaseFailure(error: unknown): error is DiskliftError & { code: BaseFailure } {
  return error instanceof DiskliftError && BASE_FAILURES.some((code) => code === error.code);
}

/** The errno name (`EIO`, `ENOENT`, ...) that a system call failed with, if `error` carries one. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code } = error as NodeJS.ErrnoException;
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}
