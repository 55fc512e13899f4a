/** Progress of the two passes on standard error: bars on a terminal, JSON lines for programs, or nothing. */

import type { WriteStream } from 'node:tty';
import type { SingleBar } from 'cli-progress';
import { formatBytes } from '../common/bytes.ts';
import type { DiskState, ExportObserver } from '../engine/observer.ts';

type Pass = 'scan' | 'stream';

export interface Progress {
  begin(pass: Pass, totalBytes: number): void;
  /** Called often: only stores the number. */
  update(bytes: number): void;
  /** All bytes have arrived. */
  done(): void;
  /** Ends the output. Called also after an error. */
  stop(): void;
}

const JSON_PERIOD_MS = 1000;
const BAR_PERIOD_MS = 200;

const NO_PROGRESS: Progress = { begin() {}, update() {}, done() {}, stop() {} };

export async function createProgress(how: 'auto' | 'json' | 'none', stream: WriteStream): Promise<Progress> {
  if (how === 'json') return createJsonProgress(stream);
  return how === 'auto' && stream.isTTY ? createBars(stream) : NO_PROGRESS;
}

/** Progress of a pass and its average speed. */
class PassState {
  readonly pass: Pass;
  readonly totalBytes: number;
  bytes = 0;
  private readonly startMs = performance.now();

  constructor(pass: Pass, totalBytes: number) {
    this.pass = pass;
    this.totalBytes = totalBytes;
  }

  facts() {
    const elapsedSeconds = (performance.now() - this.startMs) / 1000;
    const bytesPerSecond = elapsedSeconds > 0 ? Math.round(this.bytes / elapsedSeconds) : 0;
    const etaSeconds = bytesPerSecond > 0 ? (this.totalBytes - this.bytes) / bytesPerSecond : null;
    const { pass, bytes, totalBytes } = this;
    return { pass, bytes, totalBytes, bytesPerSecond, elapsedSeconds, etaSeconds };
  }
}

function createJsonProgress(stream: WriteStream): Progress {
  let state: PassState | undefined;
  const line = (extra: object) => stream.write(`${JSON.stringify({ ...state?.facts(), ...extra })}\n`);
  const timer = setInterval(() => state !== undefined && line({ done: false }), JSON_PERIOD_MS);
  timer.unref();
  return {
    begin(pass, totalBytes) {
      state = new PassState(pass, totalBytes);
      line({ done: false });
    },
    update(bytes) {
      if (state !== undefined) state.bytes = bytes;
    },
    done: () => line({ done: true }),
    stop: () => clearInterval(timer),
  };
}

async function createBars(stream: WriteStream): Promise<Progress> {
  // Loaded only for a terminal: a command in a pipeline starts faster without it.
  const { default: cliProgress } = await import('cli-progress');
  let state: PassState | undefined;
  let bar: SingleBar | undefined;

  function payload() {
    const { pass, bytes, totalBytes, bytesPerSecond, etaSeconds } = (state as PassState).facts();
    const eta = etaSeconds === null ? '' : `, ${Math.ceil(etaSeconds)} s left`;
    return { pass: pass.padEnd(6), text: `${formatBytes(bytes)} of ${formatBytes(totalBytes)}, ${formatBytes(bytesPerSecond)}/s${eta}` };
  }
  function draw(): void {
    if (state !== undefined) bar?.update(state.bytes, payload());
  }
  const timer = setInterval(draw, BAR_PERIOD_MS);
  timer.unref();
  return {
    begin(pass, totalBytes) {
      draw();
      bar?.stop();
      state = new PassState(pass, totalBytes);
      bar = new cliProgress.SingleBar(
        { stream, format: '{pass} [{bar}] {percentage}% {text}', hideCursor: true },
        cliProgress.Presets.shades_classic,
      );
      bar.start(totalBytes, 0, payload());
    },
    update(bytes) {
      if (state !== undefined) state.bytes = bytes;
    },
    done: draw,
    stop() {
      clearInterval(timer);
      bar?.stop();
    },
  };
}

/** Shows an export on the terminal: a bar for each pass over a disk, and a line for each attempt that failed. */
export function progressObserver(progress: Progress, warn: (message: string) => void): ExportObserver {
  let shown = '';

  /** Begins a bar when a pass has begun and its length is known. */
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
    onWait: ({ path }, { message }) => warn(`${path}: waits until the disk is free: ${message}`),
  };
}
