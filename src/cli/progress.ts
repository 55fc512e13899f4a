/** Progress of the two passes on standard error: bars on a terminal, JSON lines for programs, or nothing. */

import type { WriteStream } from 'node:tty';
import type { SingleBar } from 'cli-progress';
import { formatBytes } from '../common/bytes.ts';

type Pass = 'scan' | 'stream';

export interface Progress {
  begin(pass: Pass, totalBytes: number): void;
  /** Cheap: remembers a number. */
  update(bytes: number): void;
  /** Everything has arrived. */
  done(): void;
  /** Ends the output; also after an error. */
  stop(): void;
}

const JSON_PERIOD_MS = 1000;
const BAR_PERIOD_MS = 200;

const NO_PROGRESS: Progress = { begin() {}, update() {}, done() {}, stop() {} };

export async function createProgress(how: 'auto' | 'json' | 'none', stream: WriteStream): Promise<Progress> {
  if (how === 'json') return createJsonProgress(stream);
  return how === 'auto' && stream.isTTY ? createBars(stream) : NO_PROGRESS;
}

/** How far a pass is, and how fast it went on average. */
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
  // Loaded only when somebody looks: a command in a pipeline starts sooner without it.
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
