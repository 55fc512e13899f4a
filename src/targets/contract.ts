/** Where images go. */

import type { VirtualImage } from '../image/contract.ts';

export interface TransferContext {
  signal: AbortSignal;
  /** Called with the number of bytes sent so far. */
  progress(sentBytes: number): void;
  /**
   * To be called when everything has been read and before the image can become complete at the peer.
   * @throws DiskliftError `SourceChanged`; then the peer must not get the rest.
   */
  seal(): Promise<void>;
}

export interface Receipt {
  location: string;
  sizeBytes: number;
  /** What shows that the image arrived; 'close': the peer took every byte and the orderly end. */
  proof: 'close';
}

export interface ExportTarget {
  /** Sends the whole image or throws a DiskliftError; after an error no complete image is at the peer. */
  send(image: VirtualImage, context: TransferContext): Promise<Receipt>;
}
