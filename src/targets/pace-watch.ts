/** Ends a transfer whose peer takes no bytes, or too few of them. */

import type { Socket } from 'node:net';
import { abortable } from '../common/abortable.ts';
import { formatBytes } from '../common/bytes.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';

export interface PaceLimits {
  /** Limit of a time in which the peer takes no byte. */
  idleMs: number;
  /** The peer must take as many bytes a second, over `rateWindowMs`. 0: no such limit. */
  minRateBytesPerSecond: number;
  rateWindowMs: number;
}

/**
 * A line at the lowest rate takes 12 days for 1 GiB. The window is as long as the idle limit. A kernel with large
 * buffers hands over bytes in steps of a megabyte and more, so a shorter window would end transfers that move.
 */
export const DEFAULT_PACE: PaceLimits = { idleMs: 120_000, minRateBytesPerSecond: 1024, rateWindowMs: 120_000 };

export interface PaceOptions {
  /** The destination as it may be shown. */
  where: string;
  clock: Clock;
  limits: PaceLimits;
  /** Called at least once a second while the peer takes bytes. */
  onMoved?: (() => void) | undefined;
}

/** A wait for the peer to take bytes. */
interface Flow {
  takenBytes(): number;
  lastBytes: number;
}

interface Sample {
  waitedMs: number;
  movedBytes: number;
}

const MAX_TICK_MS = 1000;
/** A longer time between two ticks means that the process was stopped, not that the peer was slow. */
const MAX_COUNTED_MS = 5000;
/** Ticks in the shorter of both limits, so that a limit fires within 5 % of its time. */
const TICKS = 40;

/**
 * Time counts only while a wait is open. Reading the source, the wait for buffers and the wait for the final answer are
 * not open waits. Several connections of one transfer are counted together.
 */
export class PaceWatch {
  /** Aborted with `DestinationUnreachable` (retryable) when a limit is exceeded. */
  readonly signal: AbortSignal;
  private readonly options: PaceOptions;
  private readonly failed = new AbortController();
  private readonly stopped = new AbortController();
  private readonly flows = new Set<Flow>();
  private readonly tickMs: number;
  private samples: Sample[] = [{ waitedMs: 0, movedBytes: 0 }];
  private waitedMs = 0;
  private movedBytes = 0;
  /** Waited time at which bytes were last seen to move. */
  private lastMovedMs = 0;
  private countedMs = 0;

  constructor(options: PaceOptions) {
    this.options = options;
    this.signal = this.failed.signal;
    const { idleMs, rateWindowMs } = options.limits;
    this.tickMs = Math.min(MAX_TICK_MS, Math.min(idleMs, rateWindowMs) / TICKS);
    void this.run();
  }

  /**
   * Opens a wait.
   * @param takenBytes bytes that the connection has taken, from any beginning
   * @returns closes the wait
   */
  open(takenBytes: () => number): () => void {
    this.count();
    const flow = { takenBytes, lastBytes: takenBytes() };
    this.flows.add(flow);
    return () => {
      if (!this.flows.has(flow)) return;
      this.count();
      this.flows.delete(flow);
    };
  }

  /** Begins a write and waits for it. @throws DiskliftError as `signal` when a limit is exceeded meanwhile */
  async during<T>(write: () => Promise<T>, takenBytes: () => number): Promise<T> {
    const close = this.open(takenBytes);
    try {
      return await abortable(write(), this.signal);
    } finally {
      close();
    }
  }

  stop(): void {
    this.stopped.abort(new DiskliftError('Cancelled', 'the transfer has ended'));
  }

  private async run(): Promise<void> {
    const { clock } = this.options;
    try {
      for (;;) {
        await clock.delay(this.tickMs, this.stopped.signal);
        if (this.flows.size > 0) this.tick();
      }
    } catch {
      // Stopped.
    }
  }

  private count(): void {
    const nowMs = this.options.clock.monotonicMs();
    if (this.flows.size > 0) this.waitedMs += Math.min(nowMs - this.countedMs, MAX_COUNTED_MS);
    this.countedMs = nowMs;
    for (const flow of this.flows) {
      const bytes = flow.takenBytes();
      if (bytes <= flow.lastBytes) continue;
      this.movedBytes += bytes - flow.lastBytes;
      flow.lastBytes = bytes;
      this.lastMovedMs = this.waitedMs;
    }
  }

  private tick(): void {
    const { limits, where, onMoved } = this.options;
    const before = this.movedBytes;
    this.count();
    if (this.movedBytes > before) onMoved?.();
    const idleMs = this.waitedMs - this.lastMovedMs;
    if (idleMs >= limits.idleMs) this.fail(`${where}: takes no more bytes (waited ${seconds(limits.idleMs)})`);
    else this.judgeRate();
  }

  private judgeRate(): void {
    const { limits, where } = this.options;
    const { waitedMs, movedBytes, samples } = this;
    samples.push({ waitedMs, movedBytes });
    while ((samples[1]?.waitedMs ?? Number.POSITIVE_INFINITY) <= waitedMs - limits.rateWindowMs) samples.shift();
    const [first] = samples as [Sample];
    const windowMs = waitedMs - first.waitedMs;
    if (windowMs < limits.rateWindowMs) return;
    const bytes = movedBytes - first.movedBytes;
    const rate = Math.floor((bytes * 1000) / windowMs);
    if (rate >= limits.minRateBytesPerSecond) return;
    this.fail(
      `${where}: takes bytes too slowly: ${formatBytes(bytes)} in ${seconds(windowMs)}, which is ${rate} B/s; ` +
        `at least ${limits.minRateBytesPerSecond} B/s are required (minRateBytesPerSecond)`,
    );
  }

  private fail(message: string): void {
    this.stop();
    this.failed.abort(new DiskliftError('DestinationUnreachable', message));
  }
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}

/** Members of Node's sockets that its types omit. */
interface SocketInternals {
  /** The socket that carries a TLS connection. */
  _parent?: Socket;
  _handle?: { bytesWritten: number; writeQueueSize: number } | null;
}

/**
 * Grows while a large write is under way, unlike `bytesWritten`, which counts a write when it begins. Under TLS it
 * counts the encrypted bytes.
 * @returns 0 for a socket that is closed
 */
export function takenBytes(socket: Socket): number {
  const { _parent: parent, _handle: handle } = socket as SocketInternals;
  if (parent !== undefined && parent !== null) return takenBytes(parent);
  if (handle === undefined || handle === null) return 0;
  return handle.bytesWritten - handle.writeQueueSize;
}
