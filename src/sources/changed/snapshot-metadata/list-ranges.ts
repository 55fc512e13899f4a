/** Reads a whole list. A stream that breaks off goes on where it ended, as long as each try gets further. */

import { readFile } from 'node:fs/promises';
import { DiskliftError } from '../../../common/errors.ts';
import { retry } from '../../../common/retry.ts';
import { withinLimit } from '../../../common/time-limit.ts';
import type { RangeList, RangesQuestion } from './contract.ts';
import { streamMessages } from './metadata-client.ts';
import { createRangeList, type RangeListBuilder } from './range-list.ts';
import { refusedList } from './service-errors.ts';

/** Tries in a row without another range. */
const MAX_TRIES = 4;

/** The whole list, with all tries. The sidecar of the service ends each stream after 10 minutes by default. */
const LIST_LIMIT_MS = 3_600_000;

const BACKOFF = { baseMs: 500, capMs: 10_000 };

/** The token of a file system that hangs must not hang the export. */
const TOKEN_MS = 10_000;
const MAX_TOKEN_BYTES = 65_536;

/** A stream may have messages without a range. One that has nothing else never ends. */
const MAX_EMPTY_MESSAGES = 10_000;

/**
 * @throws DiskliftError `ChangesMissing` and `ChangesRefused`, where another image has to be made; `SourceReadError`
 * (retryable), `SourcePermissionDenied`, `CredentialsInvalid`, errors of `locate`; `Cancelled` at once
 */
export async function listRanges(question: RangesQuestion): Promise<RangeList> {
  const { snapshot, clock, random, signal } = question;
  const name = `VolumeSnapshot ${snapshot.name}`;
  const list = createRangeList(name);
  const endMs = clock.monotonicMs() + LIST_LIMIT_MS;
  let reached = 0;
  let failures = 0;
  await retry(() => readStream(question, { name, list, endMs }), {
    clock,
    random,
    signal,
    backoff: BACKOFF,
    maxDelayMs: BACKOFF.capMs,
    limitMs: LIST_LIMIT_MS,
    isRetryable(error) {
      failures = list.nextOffset > reached ? 1 : failures + 1;
      reached = list.nextOffset;
      return error instanceof DiskliftError && error.retryable && failures < MAX_TRIES;
    },
  });
  return list.build();
}

interface StreamState {
  name: string;
  list: RangeListBuilder;
  endMs: number;
}

async function readStream(question: RangesQuestion, { name, list, endMs }: StreamState): Promise<void> {
  if (list.isComplete) return;
  const token = await readToken(question);
  list.beginStream();
  let emptyMessages = 0;
  for await (const message of streamMessages({ ...question, name, token, startingOffset: list.nextOffset })) {
    list.add(message);
    emptyMessages = message.ranges.length === 0 ? emptyMessages + 1 : 0;
    if (emptyMessages > MAX_EMPTY_MESSAGES) throw refusedList(name, `it has ${emptyMessages} messages without a range`);
    if (question.clock.monotonicMs() > endMs) throw refusedList(name, `it did not end within ${LIST_LIMIT_MS / 60_000} minutes`);
  }
}

/** Reads the file each time: the kubelet replaces the token. @throws DiskliftError `CredentialsInvalid` */
async function readToken({ service: { tokenFile }, clock, signal }: RangesQuestion): Promise<string> {
  const unreadable = (why: string, cause?: unknown) =>
    new DiskliftError('CredentialsInvalid', `the token file ${tokenFile} of the SnapshotMetadata service ${why}`, cause);
  const reading = readFile(tokenFile, { encoding: 'utf8', signal }).catch((error: unknown) => {
    throw unreadable('cannot be read', error);
  });
  const late = () => unreadable('cannot be read in time');
  const token = (await withinLimit(reading, { clock, signal, limitMs: TOKEN_MS, late })).trim();
  if (token === '' || token.length > MAX_TOKEN_BYTES) throw unreadable('has no token');
  return token;
}
