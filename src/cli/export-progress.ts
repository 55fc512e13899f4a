/** An export on the terminal: the bars of its disks, one pass after the other, and a line for each attempt that failed. */

import type { DiskState, ExportObserver } from '../engine/observer.ts';
import type { Progress } from './progress.ts';

export function progressObserver(progress: Progress, warn: (message: string) => void): ExportObserver {
  let shown = '';

  /** Begins a bar when a pass has begun of which the length is known. */
  function begin({ path, phase, attempts, virtualBytes, imageBytes }: DiskState): void {
    const pass = phase === 'Scanning' ? 'scan' : phase === 'Streaming' ? 'stream' : undefined;
    const totalBytes = pass === 'scan' ? virtualBytes : imageBytes;
    const name = `${path} ${pass} ${attempts}`;
    if (pass === undefined || totalBytes === undefined || name === shown) return;
    shown = name;
    progress.begin(pass, totalBytes);
  }

  return {
    onChange(disk) {
      begin(disk);
      if (disk.phase === 'Succeeded') progress.done();
    },
    onProgress: ({ phase, scannedBytes, sentBytes }) => progress.update(phase === 'Scanning' ? scannedBytes : sentBytes),
    onRetry: ({ path, attempts }, { message }, delayMs) =>
      warn(`${path}: attempt ${attempts} failed, the next in ${(delayMs / 1000).toFixed(1)} s: ${message}`),
    onWait: ({ path }, { message }) => warn(`${path}: waits until nobody writes to it: ${message}`),
  };
}
