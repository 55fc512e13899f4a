/** The body of a watch: a line of JSON an event. "Efficient detection of changes" in the Kubernetes documentation. */

import { throwIfAborted } from '../../../common/abortable.ts';
import { MIB } from '../../../common/bytes.ts';
import { unansweredError, unusableError } from './api-failure.ts';
import type { WatchEvent } from './contract.ts';

/** An object has at most 1.5 MiB in the API server's store; whatever is longer is not an event. */
const MAX_LINE_CHARACTERS = 8 * MIB;

interface WatchedBody {
  /** What is watched, as a message may name it. */
  what: string;
  signal: AbortSignal;
}

/**
 * Ends with the body; half a line at its end is dropped, because a watch that goes on from the last whole event gets it again.
 * @throws DiskliftError of a failure `Unavailable` when the connection breaks or a line is not an event; `Cancelled`
 */
export async function* readWatchEvents(body: ReadableStream<Uint8Array>, { what, signal }: WatchedBody): AsyncGenerator<WatchEvent> {
  const decoder = new TextDecoder();
  let pending = '';
  try {
    for await (const chunk of body) {
      const lines = (pending + decoder.decode(chunk, { stream: true })).split('\n');
      pending = lines.pop() as string;
      if (pending.length > MAX_LINE_CHARACTERS) throw unusableError(what, 'it sends a line without an end');
      for (const line of lines) if (line.trim() !== '') yield parseEvent(line, what);
    }
  } catch (error) {
    throwIfAborted(signal);
    throw unansweredError(what, error);
  }
}

function parseEvent(line: string, what: string): WatchEvent {
  let event: Partial<WatchEvent> | null;
  try {
    event = JSON.parse(line);
  } catch {
    throw unusableError(what, 'it sends what is not JSON');
  }
  if (typeof event?.type !== 'string' || typeof event.object !== 'object' || event.object === null)
    throw unusableError(what, 'it sends what is no event');
  return { type: event.type, object: event.object };
}
