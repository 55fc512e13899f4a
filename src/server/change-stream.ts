/**
 * Pushes changed exports to every reader once a second by server-sent events
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html).
 */

import type { ServerResponse } from 'node:http';
import type { Clock } from '../common/clock.ts';
import type { ShownExports } from './export-registry.ts';
import type { ExportView } from './export-view.ts';
import { countPhases, type PhaseCounts } from './query-exports.ts';
import type { MayStay } from './require-token.ts';

export interface ChangeStream {
  /**
   * Takes over the response until its reader disconnects or `mayStay` returns false.
   * @returns false when there are too many readers
   */
  add(response: ServerResponse, mayStay: MayStay): boolean;
}

export interface ChangeStreamOptions {
  registry: ShownExports;
  clock: Clock;
  warn(message: string): void;
  /** Aborted when the server ends; then all streams end. */
  signal: AbortSignal;
}

/** The data of an event named `changes`. */
interface Changes {
  counts: PhaseCounts;
  total: number;
  items: ExportView[];
  removed: string[];
  /** More exports have changed than the event contains: the reader must reload the list. */
  isPartial: boolean;
}

const PERIOD_MS = 1000;
/** A comment is sent after so many periods without changes, so that both ends and proxies keep the connection. */
const MAX_SILENT_PERIODS = 15;
/** A reader whose token is withdrawn reads on for at most so many periods. */
const MAX_TRUSTED_PERIODS = 30;
const MAX_READERS = 32;
const MAX_ITEMS = 100;
/** A reader with more unread bytes is disconnected. */
const MAX_UNREAD_BYTES = 4 * 1024 * 1024;

export function createChangeStream({ registry, clock, warn, signal }: ChangeStreamOptions): ChangeStream {
  const readers = new Map<ServerResponse, MayStay>();
  const changed = new Set<string>();
  let isRunning = false;

  function takeChanges(): Changes {
    const views = [...registry.keys()].map((key) => registry.get(key)).filter((view) => view !== undefined);
    const removed = [...changed].filter((key) => registry.get(key) === undefined);
    const found = [...changed].map((key) => registry.get(key)).filter((view) => view !== undefined);
    changed.clear();
    return {
      counts: countPhases(views),
      total: views.length,
      items: found.slice(0, MAX_ITEMS),
      removed: removed.slice(0, MAX_ITEMS),
      isPartial: found.length > MAX_ITEMS || removed.length > MAX_ITEMS,
    };
  }

  function send(text: string): void {
    for (const reader of readers.keys()) {
      if (reader.writableLength > MAX_UNREAD_BYTES) remove(reader, () => reader.destroy());
      else reader.write(text);
    }
  }

  /** A stalled reader emits `close` later; nothing may be written to it after its end. */
  function remove(reader: ServerResponse, end: () => void): void {
    if (readers.delete(reader)) end();
  }

  /** Ends readers whose token is withdrawn. Other readers do not wait for these checks. */
  function endWithdrawn(): void {
    for (const [reader, mayStay] of readers)
      mayStay().then(
        (may) => may || remove(reader, () => reader.end()),
        () => remove(reader, () => reader.end()),
      );
  }

  async function run(): Promise<void> {
    isRunning = true;
    const stopListening = registry.onChange((key) => changed.add(key));
    try {
      for (let [silent, trusted] = [0, 0]; readers.size > 0; silent += 1, trusted += 1) {
        await clock.delay(PERIOD_MS, signal);
        if (trusted >= MAX_TRUSTED_PERIODS) {
          endWithdrawn();
          trusted = 0;
        }
        // The rate of an export falls while no bytes move.
        for (const key of registry.liveKeys()) changed.add(key);
        if (changed.size > 0) {
          send(`event: changes\ndata: ${JSON.stringify(takeChanges())}\n\n`);
          silent = 0;
        } else if (silent >= MAX_SILENT_PERIODS) {
          send(': nothing new\n\n');
          silent = 0;
        }
      }
    } catch (error) {
      // Unless the server ends this is a mistake of this program, which must not stop exports. Readers reconnect.
      if (!signal.aborted) warn(`changes cannot be sent: ${(error as Error).stack ?? error}`);
      for (const reader of readers.keys()) remove(reader, () => reader.end());
    } finally {
      stopListening();
      changed.clear();
      isRunning = false;
    }
  }

  return {
    add(response, mayStay) {
      if (readers.size >= MAX_READERS || signal.aborted) return false;
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
      response.write(': connected\n\n');
      readers.set(response, mayStay);
      response.once('close', () => readers.delete(response));
      if (!isRunning) void run();
      return true;
    },
  };
}
