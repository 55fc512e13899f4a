/**
 * Destinations of images. Every implementation passes test/contract/export-target.ts.
 *
 * The engine makes a target for each step with the present credentials, and calls in this order:
 * 1. `check`, before the scan, where the target has it. A failure ends the attempt before the disk is read.
 * 2. `send`, once in an attempt, when the image is known. `send` calls back:
 *    - `saveResume` before the peer can hold anything that outlives the connection;
 *    - `progress` as bytes leave;
 *    - `seal` when everything has been read, and before the peer can have a complete image;
 *    - `saveResume(undefined)` when the peer holds nothing more.
 * 3. `abandon`, perhaps in another process, when no attempt will continue a saved state.
 *
 * Codes of failures; `DiskliftError.retryable` decides:
 * - `DestinationUnreachable`: no connection, no answer, too slow. Retryable, except for certificates.
 * - `DestinationRejected`: the peer refuses. Retryable where the peer may accept later.
 * - `ChecksumMismatch`, retryable: the peer has other bytes.
 * - `CredentialsInvalid`, `DestinationNotAllowed`, `InvalidRequest`, `ImageTooLarge`: never retryable.
 * - `Cancelled`: the reason of the signal's abort.
 * Failures of reading and sealing the image pass through unchanged.
 */

import { KIB, MIB } from '../common/bytes.ts';
import type { VirtualImage } from '../image/contract.ts';

/**
 * State with which a later attempt, or another process, continues a transfer that the peer holds open. Holds no secret.
 */
export interface ResumeState {
  /**
   * The peer's name for the state: the id of a multipart upload. Only the target interprets it. An answer with the id
   * may get lost, so an intent is saved before the request: `creating:` and the time, in milliseconds since 1970. Where
   * the id may have been damaged on its way, it follows the intent behind another colon.
   */
  id: string;
  /** Length of all parts except the last. Parts are ranges of the image. */
  partSizeBytes: number;
  /** Fingerprint of the image that the parts belong to. Parts of different images must not be mixed. */
  fingerprint: string;
}

export interface TransferContext {
  signal: AbortSignal;
  /** State that an earlier attempt saved. The caller guarantees that its fingerprint equals the image's. */
  resume?: ResumeState | undefined;
  /**
   * Whether an earlier attempt of this disk has sent bytes, or may have. A peer without resume may have kept them: they
   * may block this attempt, or be the whole image whose confirmation was lost.
   */
  hasSentBefore?: boolean | undefined;
  /**
   * Saves the state. Call this before the request after which the peer may hold something that outlives the connection;
   * call it with undefined when the peer holds nothing more. When the promise resolves, the state survives the death of
   * this process.
   * @throws DiskliftError `ExecutorLost`, `StoreUnavailable`, `StoreRefused`, `Cancelled`: the state may not be saved
   */
  saveResume(state: ResumeState | undefined): Promise<void>;
  /**
   * Reports the number of bytes that have left, or that the peer has. It only grows, and never exceeds the image's
   * size: a part that is sent again does not reduce it. Never fails.
   */
  progress(sentBytes: number): void;
  /**
   * Confirms that the source did not change. Call this when everything has been read, and before the image can become
   * complete at the peer.
   * @returns the SHA-256 of the image, in hex, where the request asks for it
   * @throws DiskliftError `SourceChanged`, or `ExecutorLost` when another process owns the export; the peer must then
   * not receive the rest
   */
  seal(): Promise<Seal>;
}

export interface Seal {
  sha256?: string;
}

/**
 * - 'digest': the peer reported the digest of the stored image, and it equals ours.
 * - 'etag': the tag of the object, or of each part, equals the MD5 that we computed.
 * - 'checksum': the peer reported a CRC of each part, and it equals ours.
 * - 'readBack': the image, or its parts without another proof, were read back and compared.
 * - 'length': only the length was compared.
 * - 'status': the peer answered the whole body with success.
 * - 'close': the peer took every byte and the orderly end.
 */
export type Proof = 'digest' | 'etag' | 'checksum' | 'readBack' | 'length' | 'status' | 'close';

export interface Receipt {
  /** Place of the image. Never holds a secret: neither the query of a URL nor its user. */
  location: string;
  sizeBytes: number;
  etag?: string;
  sha256?: string;
  /** The kind of comparison that shows that the image arrived. */
  proof: Proof;
}

/** A file at the destination, without its bytes. */
export interface FileFacts {
  sizeBytes: number;
  /** Changes with the file, where the server has something of that kind: its entity tag, or its time. */
  etag?: string | undefined;
}

/**
 * Small files beside the images: receipts, trackers and block hashes. A place is the key of an object in the bucket, or
 * a path of the HTTP server that begins with /. No place leads to another bucket or another server.
 *
 * Every call makes a connection of its own. A file that does not exist is no failure.
 * @throws DiskliftError with the codes of an {@link ExportTarget}
 */
export interface DestinationFiles {
  /** @throws DiskliftError `DestinationRejected` also for a file of more than `maxBytes` */
  read(place: string, maxBytes: number, signal: AbortSignal): Promise<{ bytes: Uint8Array; etag?: string | undefined } | undefined>;
  /** @returns undefined where there is no file. @throws DiskliftError */
  look(place: string, signal: AbortSignal): Promise<FileFacts | undefined>;
  /**
   * @returns the bytes from `start` up to `end`
   * @throws DiskliftError `DestinationRejected` also where the file is missing or ends earlier
   */
  readRange(place: string, range: { start: number; end: number }, signal: AbortSignal): Promise<Uint8Array>;
  /** Makes or replaces the file. @param bytes at most {@link MAX_FILE_BYTES} @throws DiskliftError */
  write(place: string, bytes: Uint8Array, signal: AbortSignal): Promise<void>;
  /** The place for people. Holds no secret. */
  location(place: string): string;
}

/** Limit of a file beside the images: the block hashes of a disk of 2 TiB. */
export const MAX_FILE_BYTES = 64 * MIB + KIB;

export interface ExportTarget {
  /**
   * Checks what would refuse the image after the scan: names, policy, certificates, credentials, bucket. Sends no byte
   * of the image and leaves nothing at the peer. Passes in doubt, because credentials may permit the upload and nothing
   * else. Left out where nothing can be checked in advance.
   * @throws DiskliftError for a failure that `send` would meet as well
   */
  check?(signal: AbortSignal): Promise<void>;
  /**
   * Sends the whole image. After an error no complete image of this attempt is at the peer; the state that `saveResume`
   * saved stays there for the next attempt.
   * @throws DiskliftError with the codes above
   */
  send(image: VirtualImage, context: TransferContext): Promise<Receipt>;
  /**
   * Makes the peer drop the state that `resume` names. A state that the peer no longer has is no error.
   * @throws DiskliftError when the peer may still hold it
   */
  abandon(resume: ResumeState, signal: AbortSignal): Promise<void>;
}
