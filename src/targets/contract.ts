/** Where images go. Every implementation passes test/contract/export-target.ts. */

import type { VirtualImage } from '../image/contract.ts';

/** What a later attempt, or another process, needs to go on with a transfer that the peer holds open. Holds no secret. */
export interface ResumeState {
  /**
   * The peer's name for what it holds: the id of a multipart upload. Where the name comes with an answer that may get lost, an intent is
   * saved before the peer is asked: `creating:` and the time, in milliseconds since 1970. Where the name may have been damaged on its way,
   * it follows the intent behind another colon. The target alone looks into it.
   */
  id: string;
  /** Parts are ranges of the image of this length, but for the last. */
  partSizeBytes: number;
  /** Of the image that the parts belong to; parts of another one must not be mixed with them. */
  fingerprint: string;
}

export interface TransferContext {
  signal: AbortSignal;
  /** What an earlier attempt has saved. Its fingerprint is that of the image; the caller has made sure of it. */
  resume?: ResumeState | undefined;
  /**
   * Whether an earlier attempt of this disk has sent bytes, or may have. A peer without resume may have kept them: they may block this
   * attempt, or be the whole image whose confirmation was lost.
   */
  hasSentBefore?: boolean | undefined;
  /**
   * To be called when the peer has begun to hold something that outlives the connection, or may do so with the next request, before
   * anything is put into it; and with undefined when it holds it no longer. When the promise resolves, the state survives the death of this process.
   */
  saveResume(state: ResumeState | undefined): Promise<void>;
  /**
   * Called with the number of bytes that have left, or that the peer has. Only grows, and never exceeds the image's size; a part that is sent
   * again does not take it back.
   */
  progress(sentBytes: number): void;
  /**
   * To be called when everything has been read and before the image can become complete at the peer.
   * @returns the SHA-256 of the image, in hex, when one was asked for
   * @throws DiskliftError `SourceChanged`, or `ExecutorLost` when the export belongs to somebody else by now; then the
   * peer must not get the rest.
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
  /** Where the image is now. Never holds a secret: not the query of a URL, not its user. */
  location: string;
  sizeBytes: number;
  etag?: string;
  sha256?: string;
  /** The kind of comparison that shows that the image arrived. */
  proof: Proof;
}

export interface ExportTarget {
  /**
   * Called before the scan. Asks for what would refuse the image afterwards: names, policy, certificates, credentials, bucket. Sends no byte of
   * the image and leaves nothing at the peer. Passes where it is not sure: credentials may permit the upload and nothing else. Left out
   * where nothing can be known before.
   * @throws DiskliftError for a failure that `send` would meet as well
   */
  check?(signal: AbortSignal): Promise<void>;
  /**
   * Sends the whole image or throws a DiskliftError; after an error no complete image is at the peer. What it has saved by
   * `saveResume` stays there for the next attempt.
   */
  send(image: VirtualImage, context: TransferContext): Promise<Receipt>;
  /** Has the peer drop what `resume` names. Nothing to drop is no error. @throws DiskliftError when the peer may still hold it */
  abandon(resume: ResumeState, signal: AbortSignal): Promise<void>;
}
