/** The progress of one transfer to S3: the parts that have arrived, and the bytes of those that are on their way. */

export class UploadProgress {
  private readonly report: (sentBytes: number) => void;
  private readonly sizeBytes: number;
  private arrivedBytes = 0;
  private reportedBytes = 0;
  private readonly sending = new Set<() => number>();

  constructor(report: (sentBytes: number) => void, sizeBytes: number) {
    this.report = report;
    this.sizeBytes = sizeBytes;
  }

  /** A request begins to carry bytes. @returns ends the request, whose bytes count no longer */
  begin(sentBytes: () => number): () => void {
    this.sending.add(sentBytes);
    return () => this.sending.delete(sentBytes);
  }

  arrive(sizeBytes: number): void {
    this.arrivedBytes += sizeBytes;
    this.update();
  }

  /** A second upload of the same attempt begins. */
  restart(): void {
    this.arrivedBytes = 0;
  }

  /** Reports growth only: a part that is sent again does not take progress back. */
  update(): void {
    let bytes = this.arrivedBytes;
    for (const sentBytes of this.sending) bytes += sentBytes();
    bytes = Math.min(bytes, this.sizeBytes);
    if (bytes <= this.reportedBytes) return;
    this.reportedBytes = bytes;
    this.report(bytes);
  }
}
