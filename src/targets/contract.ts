/** Where images go. */

import type { VirtualImage } from '../image/contract.ts';

export interface TransferContext {
  signal: AbortSignal;
  /** Called with the number of bytes sent so far. */
  progress(sentBytes: number): void;
  /**
   * To be called when everything has been read and before the image can become complete at the peer.
   * @returns the SHA-256 of the image, in hex, when one was asked for
   * @throws DiskliftError `SourceChanged`; then the peer must not get the rest.
   */
  seal(): Promise<Seal>;
}

export interface Seal {
  sha256?: string;
}

export interface Receipt {
  /** Where the image is now. Never holds a secret: not the query of a URL, not its user. */
  location: string;
  sizeBytes: number;
  etag?: string;
  sha256?: string;
  /**
   * What shows that the image arrived. 'digest': the peer named the digest of what it has; 'etag': it named a tag that was
   * computed from the bytes; 'status': it answered the whole body with success; 'close': it took every byte and the orderly end.
   */
  proof: 'digest' | 'etag' | 'status' | 'close';
}

export interface ExportTarget {
  /** Sends the whole image or throws a DiskliftError; after an error no complete image is at the peer. */
  send(image: VirtualImage, context: TransferContext): Promise<Receipt>;
}
