/**
 * How an export finds the base of an image, and what it leaves for the next export.
 *
 * 1. `chooseBase` reads the tracker and the receipts, and looks at the base and the images below it, before each scan.
 * 2. The source is opened with the base. It reports what has changed since then.
 * 3. Before the image is complete at the destination, `confirmBase` looks at the base again.
 * 4. After the image has arrived, `record` writes the receipt, and moves the tracker last.
 *
 * The codes of `BASE_FAILURES` say why no incremental image is possible. The engine makes a full image then, or fails
 * with the same code.
 */

import type { BaseFailure } from '../common/errors.ts';
import type { ChangesFrom } from '../sources/changed/contract.ts';
import type { BaseReference, ImageReceipt, ReceiptPoints } from './receipt.ts';

/** The facts of a base, from its receipt. */
export interface BaseImage extends BaseReference {
  etag?: string | undefined;
  /** The place for people. Holds no secret. */
  location: string;
  /** Name of the base in the header of the new image: relative, as a file system follows it. */
  backingName: string;
  points: ReceiptPoints;
}

export type BaseChoice =
  /** The tracker does not exist yet. */
  | { kind: 'full'; reason: 'FirstImage'; message: string }
  | { kind: 'incremental'; base: BaseImage }
  /** An earlier run of this export has sent the image and written its receipt. */
  | { kind: 'recorded'; receipt: ImageReceipt; location: string };

/** Why an image is full although the request asks for an incremental one. */
export type FullReason = 'FirstImage' | BaseFailure;

/** Type of an image and the reason for it, in status, receipt, events and metrics. */
export type ImageType =
  | { type: 'Full'; reason: FullReason; message: string }
  | { type: 'Incremental'; reason: ChangesFrom; base: Pick<BaseImage, 'location' | 'sha256'> };
