/** A destination as the tests of all destinations see it: a real peer, and a target that sends to it. */

import type { ErrorCode } from '../../../src/common/errors.ts';
import type { NetworkAccess } from '../../../src/network/destination-policy.ts';
import type { ExportTarget, Receipt } from '../../../src/targets/contract.ts';
import type { Alteration } from '../s3-fake-alter.ts';

/** Time limits of a target, in milliseconds. Each target uses those that apply to it. */
export interface TargetLimits {
  connectMs: number;
  /** Until a server has answered 100. */
  continueMs: number;
  helloMs: number;
  /** Maximum time in which the peer reads no byte. */
  idleMs: number;
  answerMs: number;
  /** Limit of a look-up of the stored object. */
  queryMs: number;
}

export const SHORT_LIMITS: TargetLimits = { connectMs: 800, continueMs: 500, helloMs: 800, idleMs: 800, answerMs: 1500, queryMs: 1500 };

export interface OpenUpload {
  holdsBytes: boolean;
}

export interface Peer extends AsyncDisposable {
  /** On 127.0.0.1. */
  readonly port: number;
  /** The image that a reader gets now; undefined if it does not exist. */
  image(): Promise<Buffer | undefined>;
  /** Transfers that the peer holds open until a sender resumes or drops them. */
  openUploads(): Promise<OpenUpload[]>;
  /**
   * The size announced before the first byte of the image, at the last transfer. Undefined where no size is announced.
   */
  announcedBytes(): number | undefined;
  /**
   * Stores the bodies of the next `times` requests with image bytes altered, and no others. Left out where the peer
   * cannot do that.
   */
  spoil?(alteration: Alteration, times: number): void;
  /** From now on it refuses every transfer. */
  refuse(): Promise<void>;
  /** @param port of the peer, or of a proxy in front of it */
  createTarget(port: number, limits: TargetLimits, access?: NetworkAccess): ExportTarget;
}

export interface Destination {
  name: string;
  /** False if its server is not installed. Left out, the destination needs no installed server. */
  isThere?(): boolean;
  /** @param directory used by this peer only */
  start(directory: string): Promise<Peer>;
  proof: Receipt['proof'];
  /** The outcome when the peer refuses, and the maximum number of bytes sent before. */
  refusal: { code: ErrorCode; retryable: boolean; mostBytes: number };
  announcesSize: boolean;
  /** Whether a bit that flips on the way is detected. */
  findsCorruption: boolean;
  /** Whether its peer can {@link Peer.spoil} bodies. */
  canSpoil?: boolean;
  /** Whether the peer can distinguish an image that was cut by an orderly end from a complete one. */
  knowsLength: boolean;
  /** Whether the check before the scan connects, and detects that the peer refuses. */
  check: { connects: boolean; findsRefusal: boolean };
  /** Whether everything is read, and sealed, before the first byte leaves. */
  sealsFirst?: boolean;
  /** Differs from another destination only in its proof; only that is tested. */
  isVariant?: boolean;
  /** The most bytes that a resumed transfer sends twice. Left out where transfers cannot be resumed. */
  resendsBytes?: number;
}
