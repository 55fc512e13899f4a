/** An answer as it comes from Node. */

import type http from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { Answer } from './judge-answer.ts';

/** Of an answer's text. */
const LONGEST_TEXT_CHARACTERS = 4096;
const LONGEST_TEXT_MS = 1000;

interface Facts {
  clock: Clock;
  wasComplete(): boolean;
}

/** Waits for the beginning of the text no longer than it is worth: the status is what counts. */
export async function readAnswer(response: http.IncomingMessage, { clock, wasComplete: askComplete }: Facts): Promise<Answer> {
  const text = textOf(response);
  // Node may hear of the answer a moment before it hears that the last bytes have left.
  await nextTurn();
  const wasComplete = askComplete();
  const stop = new AbortController();
  const tooLate = clock.delay(LONGEST_TEXT_MS, stop.signal).then(() => '');
  const answer = {
    status: response.statusCode ?? 0,
    headers: singleHeaders(response),
    text: await Promise.race([text, tooLate]),
    wasComplete,
  };
  stop.abort(new DiskliftError('Cancelled', 'read'));
  return answer;
}

/** Never fails: what had come before the connection broke is what there is. */
function textOf(response: http.IncomingMessage): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const done = () => resolve(text.slice(0, LONGEST_TEXT_CHARACTERS));
    response.setEncoding('utf8').on('data', (piece: string) => {
      text += piece;
      if (text.length >= LONGEST_TEXT_CHARACTERS) done();
    });
    response.on('error', done).on('close', done).on('end', done);
  });
}

function singleHeaders({ headers }: http.IncomingMessage): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value[0] : value]));
}
