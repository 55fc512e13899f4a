/** For any bytes that a server sends, a read succeeds only when each of its bytes arrived exactly once. */

import assert from 'node:assert/strict';
import { DiskliftError } from '../../src/common/errors.ts';
import { type Agreement, negotiate } from '../../src/sources/nbd/negotiation.ts';
import { CoveredRanges, OutstandingRequests, type Statuses } from '../../src/sources/nbd/outstanding-requests.ts';
import { type ReplyEvent, ReplyParser } from '../../src/sources/nbd/reply-parser.ts';
import {
  blockSizeInfo,
  DONE,
  dataChunk,
  errorChunk,
  exportInfo,
  GREETING,
  holeChunk,
  noneChunk,
  optionReply,
  simpleReply,
  statusChunk,
} from '../helpers/nbd-replies.ts';
import { createRandom, SEED, SEED_TEXT } from '../helpers/seed.ts';

const INPUTS = 1_000_000;
const LIMIT_MS = 10_000;
const HANDSHAKE_LIMIT_MS = 2000;

const READ_BYTES = 24;
const READ_OFFSETS = [4096, 0, 4096 + READ_BYTES];
const STATUS_COOKIE = BigInt(READ_OFFSETS.length + 1);
/** base:allocation and a dirty bitmap. */
const CONTEXTS = [9, 4];

type Random = () => number;

const below = (random: Random, limit: number) => Math.floor(random() * limit);

/** The answers of a server that keeps to the protocol, in pieces and any order; now and then a piece comes twice. */
function plausibleReplies(random: Random, structured: boolean): Buffer[] {
  const replies = READ_OFFSETS.map((offset, index) => {
    const cookie = BigInt(index + 1);
    const bytes = Buffer.alloc(READ_BYTES, index + 1);
    if (!structured) return random() < 0.1 ? simpleReply(5, cookie) : simpleReply(0, cookie, bytes);
    const cut = 1 + below(random, READ_BYTES - 1);
    const pieces = [
      dataChunk(offset, bytes.subarray(0, cut), { cookie }),
      random() < 0.5 ? dataChunk(offset + cut, bytes.subarray(cut), { cookie }) : holeChunk(offset + cut, READ_BYTES - cut, { cookie }),
    ];
    if (random() < 0.5) pieces.reverse();
    if (random() < 0.05) pieces.push(pieces[0] as Buffer);
    if (random() < 0.1) pieces.push(errorChunk(5, 'bad', { cookie, offset }));
    return Buffer.concat([...pieces, noneChunk({ cookie, flags: DONE })]);
  });
  const [allocation, dirty] = CONTEXTS as [number, number];
  if (structured) {
    const statuses = [
      statusChunk(allocation, [512, 0, 512, 3], { cookie: STATUS_COOKIE }),
      statusChunk(dirty, [1024, 1], { cookie: STATUS_COOKIE }),
    ];
    if (random() < 0.5) statuses.reverse();
    replies.push(Buffer.concat([...statuses, noneChunk({ cookie: STATUS_COOKIE, flags: DONE })]));
  }
  return replies;
}

/** Changes bytes, cuts, repeats and swaps; often not at all. */
function mutate(bytes: Buffer, random: Random): Buffer {
  let changed = Buffer.from(bytes);
  for (let count = below(random, 4); count > 0; count -= 1) {
    const at = below(random, changed.length);
    const kind = below(random, 5);
    if (kind === 0) changed[at] = below(random, 256);
    else if (kind === 1) changed[at] = (changed[at] ?? 0) ^ (1 << below(random, 8));
    else if (kind === 2) changed = changed.subarray(0, at + 1);
    else {
      const end = at + 1 + below(random, 40);
      const piece = changed.subarray(at, end);
      changed =
        kind === 3 ? Buffer.concat([changed, piece]) : Buffer.concat([changed.subarray(0, at), changed.subarray(end), Buffer.alloc(1)]);
    }
  }
  return changed;
}

/** Counts independently how often each byte of each read arrived. */
class Witness {
  private readonly counts = READ_OFFSETS.map(() => new Uint8Array(READ_BYTES));

  note(event: ReplyEvent): void {
    if (event.kind !== 'data' && event.kind !== 'hole') return;
    const index = Number(event.cookie) - 1;
    const length = event.kind === 'data' ? event.bytes.length : event.length;
    const start = event.offset - (READ_OFFSETS[index] as number);
    for (let at = start; at < start + length; at += 1)
      (this.counts[index] as Uint8Array)[at] = 1 + ((this.counts[index] as Uint8Array)[at] ?? 0);
  }

  assertWhole(index: number): void {
    assert.ok(
      this.counts[index]?.every((count) => count === 1),
      `read ${index} ended well with ${this.counts[index]}`,
    );
  }
}

/** @returns how many requests ended well */
function feed(bytes: Buffer, random: Random, structured: boolean): number {
  const outstanding = new OutstandingRequests();
  const witness = new Witness();
  let doneCount = 0;
  const settled = new Set<number>();
  const settlement = (index: number) => ({
    done(statuses: Statuses) {
      assert.ok(!settled.has(index), 'settled once');
      settled.add(index);
      if (index < READ_OFFSETS.length) witness.assertWhole(index);
      else {
        assert.deepEqual([...statuses.keys()].sort(), [...CONTEXTS].sort(), 'each context once');
        for (const descriptors of statuses.values()) assert.ok(descriptors.length >= 8 && descriptors.length % 8 === 0);
      }
      doneCount += 1;
    },
    failed(offset: number) {
      assert.ok(!settled.has(index), 'settled once');
      settled.add(index);
      assert.ok(Number.isSafeInteger(offset));
    },
  });
  for (const [index, offset] of READ_OFFSETS.entries())
    outstanding.add({ kind: 'read', offset, length: READ_BYTES, target: new Uint8Array(READ_BYTES) }, settlement(index), 0);
  const status = { kind: 'status', offset: 0, length: 1024, contexts: CONTEXTS, wanted: 'have changed' } as const;
  if (structured) outstanding.add(status, settlement(READ_OFFSETS.length), 0);
  const parser = new ReplyParser({ structured, rangeOf: (cookie) => outstanding.rangeOf(cookie) });
  try {
    for (let at = 0; at < bytes.length; ) {
      const end = at + 1 + below(random, 400);
      for (const event of parser.push(bytes.subarray(at, end))) {
        // Only what is accepted counts.
        outstanding.accept(event);
        witness.note(event);
      }
      at = end;
    }
  } catch (error) {
    if (!(error instanceof DiskliftError) || error.code !== 'SourceReadError') throw error;
    assert.ok(error.message.length < 500 && !error.message.includes('\n'));
    outstanding.failAll(error);
    assert.equal(settled.size, READ_OFFSETS.length + (structured ? 1 : 0), 'nobody is left waiting');
  }
  return doneCount;
}

const HONEST_HANDSHAKE = Buffer.concat([
  GREETING,
  optionReply(8, 1),
  optionReply(10, 4, Buffer.from('\0\0\0\x05base:allocation')),
  optionReply(10, 1),
  optionReply(7, 3, exportInfo(8192)),
  optionReply(7, 3, blockSizeInfo(512, 4096, 1_000_000)),
  optionReply(7, 1),
]);

/** @returns undefined when the client waits for more than `bytes` */
function shakeHands(bytes: Buffer): Agreement | undefined {
  const conversation = negotiate('disk');
  let received: Buffer = Buffer.alloc(0);
  for (let at = 0; ; ) {
    const step = conversation.next(received);
    if (step.done === true) return step.value;
    if ('send' in step.value) continue;
    const end = at + step.value.receiveBytes;
    assert.ok(end - at <= 65_536, 'no memory for what is only announced');
    if (end > bytes.length) return undefined;
    received = bytes.subarray(at, end);
    at = end;
  }
}

describe('NBD replies', () => {
  it(`complete no read that lacks a byte or has one twice ${SEED_TEXT}`, function () {
    this.timeout(60_000);
    const random = createRandom(SEED);
    const endMs = performance.now() + LIMIT_MS;
    let [inputs, allDone] = [0, 0];
    const seeds = Array.from({ length: 1000 }, (_, index) => {
      const structured = index % 5 !== 0;
      const replies = plausibleReplies(random, structured);
      if (random() < 0.5) replies.reverse();
      return { structured, count: replies.length, bytes: Buffer.concat(replies) };
    });
    for (; inputs < INPUTS && performance.now() < endMs; inputs += 1) {
      const { structured, count, bytes: honest } = seeds[inputs % seeds.length] as (typeof seeds)[number];
      const bytes = mutate(honest, random);
      try {
        if (feed(bytes, random, structured) === count) allDone += 1;
      } catch (error) {
        throw new Error(`input ${inputs}: ${bytes.toString('hex')}`, { cause: error });
      }
    }
    console.log(`      ${inputs} inputs, of which ${allDone} ended all requests well`);
    assert.ok(inputs > 50_000 && allDone > inputs / 50 && allDone < inputs / 2);
  });

  it(`to a handshake end in a sound agreement or in an error ${SEED_TEXT}`, () => {
    const random = createRandom(SEED);
    const endMs = performance.now() + HANDSHAKE_LIMIT_MS;
    let [inputs, agreed] = [0, 0];
    for (; inputs < INPUTS && performance.now() < endMs; inputs += 1) {
      const bytes = mutate(HONEST_HANDSHAKE, random);
      try {
        const agreement = shakeHands(bytes);
        if (agreement === undefined) continue;
        const { sizeBytes, blockSizeBytes, maxReadBytes } = agreement;
        assert.ok(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0);
        assert.ok(blockSizeBytes >= 1 && blockSizeBytes <= 65_536);
        assert.ok(maxReadBytes >= blockSizeBytes && maxReadBytes % blockSizeBytes === 0 && maxReadBytes <= 2 ** 25);
        agreed += 1;
      } catch (error) {
        if (!(error instanceof DiskliftError)) throw new Error(`input ${inputs}: ${bytes.toString('hex')}`, { cause: error });
      }
    }
    assert.ok(inputs > 10_000 && agreed > inputs / 20 && agreed < inputs, `${agreed} of ${inputs}`);
  });

  it(`cover the same ranges in any order ${SEED_TEXT}`, () => {
    const random = createRandom(SEED);
    for (let round = 0; round < 3000; round += 1) {
      const length = 1 + below(random, 40);
      const naive = new Uint8Array(length);
      const covered = new CoveredRanges(2 ** 20);
      for (let step = 0; step < 30; step += 1) {
        const start = below(random, length);
        const end = start + 1 + below(random, Math.min(8, length - start));
        const isFree = naive.subarray(start, end).every((byte) => byte === 0);
        assert.equal(covered.add(start, end), isFree, `${start} to ${end} of ${naive}`);
        if (!isFree) break;
        naive.fill(1, start, end);
        const missing = naive.indexOf(0);
        assert.equal(covered.firstMissing(), missing === -1 ? length : missing);
      }
    }
    const whole = new CoveredRanges(10);
    assert.equal(whole.firstMissing(), 0);
    assert.ok(whole.add(5, 10) && whole.firstMissing() === 0);
    assert.ok(whole.add(0, 5) && whole.firstMissing() === undefined);
  });
});
