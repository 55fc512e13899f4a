/** Who wants to be told of changes is told once a second, by server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). */

import type { ServerResponse } from 'node:http';
import type { Clock } from '../common/clock.ts';
import type { ExportBoard } from './export-board.ts';
import type { ExportView } from './export-view.ts';
import { countPhases, type PhaseCounts } from './query-exports.ts';
import type { MayStay } from './require-token.ts';

export interface ChangeStream {
  /** Takes the response over until its reader goes away, or may not stay. @returns false when there are too many readers */
  add(response: ServerResponse, mayStay: MayStay): boolean;
}

export interface ChangeStreamOptions {
  board: ExportBoard;
  clock: Clock;
  warn(message: string): void;
  /** Aborted when the server ends: then all streams end. */
  signal: AbortSignal;
}

/** The data of an event named `changes`. */
interface Changes {
  counts: PhaseCounts;
  total: number;
  items: ExportView[];
  removed: string[];
  /** More have changed than are told: whoever wants to know looks anew. */
  isPartial: boolean;
}

const PERIOD_MS = 1000;
/** Something is said at least so often, so that both ends and what lies between know that the other is there. */
const SILENT_PERIODS = 15;
/** So long somebody whose token is withdrawn reads on. */
const PERIODS_OF_TRUST = 30;
const MOST_READERS = 32;
const MOST_ITEMS = 100;
/** A reader that has so much still to take is not reading. */
const MOST_UNREAD_BYTES = 4 * 1024 * 1024;

export function createChangeStream({ board, clock, warn, signal }: ChangeStreamOptions): ChangeStream {
  const readers = new Map<ServerResponse, MayStay>();
  const changed = new Set<string>();
  let isRunning = false;

  function takeChanges(): Changes {
    const views = [...board.keys()].map((key) => board.get(key)).filter((view) => view !== undefined);
    const removed = [...changed].filter((key) => board.get(key) === undefined);
    const found = [...changed].map((key) => board.get(key)).filter((view) => view !== undefined);
    changed.clear();
    return {
      counts: countPhases(views),
      total: views.length,
      items: found.slice(0, MOST_ITEMS),
      removed: removed.slice(0, MOST_ITEMS),
      isPartial: found.length > MOST_ITEMS || removed.length > MOST_ITEMS,
    };
  }

  function tell(text: string): void {
    for (const reader of readers.keys()) {
      if (reader.writableLength > MOST_UNREAD_BYTES) dismiss(reader, () => reader.destroy());
      else reader.write(text);
    }
  }

  /** A stalled reader emits `close` later; nothing may be written to it after its end. */
  function dismiss(reader: ServerResponse, end: () => void): void {
    if (readers.delete(reader)) end();
  }

  /** When it is known, for which nobody else waits. */
  function endStrangers(): void {
    for (const [reader, mayStay] of readers)
      mayStay().then(
        (may) => may || dismiss(reader, () => reader.end()),
        () => dismiss(reader, () => reader.end()),
      );
  }

  async function run(): Promise<void> {
    isRunning = true;
    const stopListening = board.onChange((key) => changed.add(key));
    try {
      for (let [silent, trusted] = [0, 0]; readers.size > 0; silent += 1, trusted += 1) {
        await clock.delay(PERIOD_MS, signal);
        if (trusted >= PERIODS_OF_TRUST) {
          endStrangers();
          trusted = 0;
        }
        // Of what stands still, the rate falls.
        for (const key of board.liveKeys()) changed.add(key);
        if (changed.size > 0) {
          tell(`event: changes\ndata: ${JSON.stringify(takeChanges())}\n\n`);
          silent = 0;
        } else if (silent >= SILENT_PERIODS) {
          tell(': nothing new\n\n');
          silent = 0;
        }
      }
    } catch (error) {
      // But for the end of the server: a mistake of this program, which must cost no export. Readers come back.
      if (!signal.aborted) warn(`changes cannot be told: ${(error as Error).stack ?? error}`);
      for (const reader of readers.keys()) dismiss(reader, () => reader.end());
    } finally {
      stopListening();
      changed.clear();
      isRunning = false;
    }
  }

  return {
    add(response, mayStay) {
      if (readers.size >= MOST_READERS || signal.aborted) return false;
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
      response.write(': connected\n\n');
      readers.set(response, mayStay);
      response.once('close', () => readers.delete(response));
      if (!isRunning) void run();
      return true;
    },
  };
}
