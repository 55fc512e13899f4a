/** The dirty bitmap of an NBD server as a map of changes, beside base:allocation. */

import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { systemClock } from '../../../../src/common/clock.ts';
import type { TrackedSource } from '../../../../src/sources/changed/contract.ts';
import { openNbdDisk } from '../../../../src/sources/nbd/nbd-disk.ts';
import { NEVER } from '../../../helpers/image-in-process.ts';
import { type NbdFakeOptions, type NbdRequest, startNbdFake } from '../../../helpers/nbd-fake.ts';
import { DONE, dataChunk, errorChunk, noneChunk, statusChunk } from '../../../helpers/nbd-replies.ts';
import { bytesOf, failedAt, SIZE_BYTES } from '../../../helpers/nbd-scene.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const [HOLE, ZERO, DIRTY] = [1, 2, 1];
const [ALLOCATION, BITMAP, DEPTH] = [7, 3, 5];
const CONTEXTS = { 'base:allocation': ALLOCATION, 'qemu:dirty-bitmap:nightly': BITMAP };
const ASKING = 'cannot ask the server which parts have changed \\(block status\\)';

/** @param lists length and flags of extents for each context */
function statusReply({ cookie }: NbdRequest, lists: Readonly<Record<number, readonly number[]>>): Buffer {
  const chunks = Object.entries(lists).map(([context, pairs]) => statusChunk(Number(context), pairs, { cookie }));
  return Buffer.concat([...chunks, noneChunk({ cookie, flags: DONE })]);
}

describe("an NBD server's dirty bitmap", () => {
  const temp = useTempDir();

  async function withChanges(
    options: Partial<NbdFakeOptions>,
    use: (source: TrackedSource, requests: NbdRequest[]) => Promise<void>,
    complaints: readonly string[] = [],
  ): Promise<void> {
    await using fake = await startNbdFake(temp('nbd.sock'), { sizeBytes: SIZE_BYTES, contexts: CONTEXTS, ...options });
    const source = await openNbdDisk(fake, { clock: systemClock, signal: NEVER, limits: { silenceMs: 1000 }, bitmap: 'nightly' });
    try {
      await use(source, fake.requests);
    } finally {
      await source.dispose();
    }
    assert.deepEqual(fake.complaints, complaints);
  }

  async function changesOf({ changed }: TrackedSource, signal = NEVER): Promise<[offset: number, length: number, what: string][]> {
    assert.ok(changed !== undefined);
    const found: [number, number, string][] = [];
    for await (const { offset, length, kind, isChanged } of changed.extents(signal))
      found.push([offset, length, `${isChanged ? 'changed' : 'unchanged'} ${kind}`]);
    return found;
  }

  /** Answers block status from queues of lists, one for each context. */
  const inTurn = (...answers: Readonly<Record<number, readonly number[]>>[]) => ({
    answer: (request: NbdRequest) => statusReply(request, answers.shift() ?? {}),
  });

  it('is judged by its own flags, and zeros by those of base:allocation', () => {
    const lists = {
      [ALLOCATION]: [8192, 0, 8192, HOLE, 8192, ZERO, 8192, HOLE | ZERO, SIZE_BYTES - 32_768, 0],
      [BITMAP]: [4096, DIRTY, 8192, 0, 16_384, DIRTY, SIZE_BYTES - 28_672, 0],
    };
    return withChanges(inTurn(lists), async (source) => {
      assert.deepEqual(await changesOf(source), [
        [0, 4096, 'changed data'],
        [4096, 4096, 'unchanged data'],
        [8192, 4096, 'unchanged data'],
        [12_288, 4096, 'changed data'],
        [16_384, 8192, 'changed zeros'],
        [24_576, 4096, 'changed zeros'],
        [28_672, 4096, 'unchanged zeros'],
        [32_768, SIZE_BYTES - 32_768, 'unchanged data'],
      ]);
    });
  });

  it('goes on from the nearer end where one context ends before the other', () => {
    const rest = SIZE_BYTES - 12_288;
    const answers = [
      { [ALLOCATION]: [SIZE_BYTES, ZERO], [BITMAP]: [4096, DIRTY, 4096, 0] },
      { [ALLOCATION]: [4096, 0], [BITMAP]: [SIZE_BYTES - 8192, DIRTY] },
      { [BITMAP]: [rest, 0], [ALLOCATION]: [rest, ZERO] },
    ];
    return withChanges(inTurn(...answers), async (source, requests) => {
      assert.deepEqual(await changesOf(source), [
        [0, 4096, 'changed zeros'],
        [4096, 4096, 'unchanged zeros'],
        [8192, 4096, 'changed data'],
        [12_288, rest, 'unchanged zeros'],
      ]);
      const asked = requests.map(({ offset, length }) => [offset, length]);
      assert.deepEqual(
        asked,
        [0, 8192, 12_288].map((offset) => [offset, SIZE_BYTES - offset]),
      );
    });
  });

  it('is complete where the server has no base:allocation', () =>
    withChanges({ contexts: { 'qemu:dirty-bitmap:nightly': 0 }, ...inTurn({ 0: [512, DIRTY, SIZE_BYTES - 512, 0] }) }, async (source) => {
      assert.deepEqual(await changesOf(source), [
        [0, 512, 'changed data'],
        [512, SIZE_BYTES - 512, 'unchanged data'],
      ]);
    }));

  it('belongs to the identity of the disk, however its extents are divided', () =>
    withChanges(
      inTurn(
        { [ALLOCATION]: [SIZE_BYTES, 0], [BITMAP]: [8192, DIRTY, SIZE_BYTES - 8192, 0] },
        { [ALLOCATION]: [512, ZERO, SIZE_BYTES - 512, 0], [BITMAP]: [4096, DIRTY, 4096, DIRTY, SIZE_BYTES - 8192, 0] },
        { [ALLOCATION]: [SIZE_BYTES, 0], [BITMAP]: [12_288, DIRTY, SIZE_BYTES - 12_288, 0] },
      ),
      async (source) => {
        const identities = [await source.identity(), await source.identity(), await source.identity()];
        assert.deepEqual(identities[1], identities[0]);
        assert.notDeepEqual(identities[2], identities[0]);
        assert.equal(identities[0]?.bitmap, 'nightly');
      },
    ));

  const whole = { [ALLOCATION]: [SIZE_BYTES, 0], [BITMAP]: [SIZE_BYTES, 0] };
  const refused: [string, (request: NbdRequest) => Uint8Array, number, RegExp][] = [
    ['is missing in the answer', (r) => statusReply(r, { [ALLOCATION]: [SIZE_BYTES, 0] }), 0, /a reply without the block status/],
    ['comes without base:allocation', (r) => statusReply(r, { [BITMAP]: [SIZE_BYTES, DIRTY] }), 0, /a reply without the block status/],
    ['comes with a foreign context', (r) => statusReply(r, { ...whole, [DEPTH]: [SIZE_BYTES, 1] }), 0, /another metadata context/],
    ['has an extent of no length', (r) => statusReply(r, { ...whole, [BITMAP]: [4096, DIRTY, 0, 0] }), 4096, /extent of no length/],
    ['goes beyond the disk', (r) => statusReply(r, { ...whole, [BITMAP]: [4096, 0, SIZE_BYTES, DIRTY] }), 4096, /of 65536 bytes/],
    [
      'goes on behind what was asked for',
      (r) => statusReply(r, { ...whole, [BITMAP]: [SIZE_BYTES, 0, 512, 1] }),
      SIZE_BYTES,
      /not asked for/,
    ],
    [
      'has flags that a bitmap does not have',
      (r) => statusReply(r, { ...whole, [BITMAP]: [SIZE_BYTES, HOLE | ZERO] }),
      0,
      /flags 3 of a dirty bitmap/,
    ],
    ['cannot be read', ({ cookie }) => errorChunk(5, 'bitmap', { cookie, flags: DONE }), 0, /: EIO \(bitmap\)$/],
  ];
  for (const [what, answer, offset, reason] of refused)
    it(`gives no map where it ${what}`, () =>
      withChanges({ answer }, async (source) => {
        // With an extent behind the query, the extents in front of it are good.
        await assert.rejects(changesOf(source), failedAt(offset, reason, ASKING));
      }));

  it('is refused where the server shows that the data lies in several images', () => {
    const contexts = { ...CONTEXTS, 'qemu:allocation-depth': DEPTH };
    const one = { ...whole, [DEPTH]: [4096, 1, SIZE_BYTES - 4096, 0] };
    const chain = { ...whole, [DEPTH]: [4096, 1, 4096, 0, 4096, 2, SIZE_BYTES - 12_288, 1] };
    return withChanges({ contexts, ...inTurn(one, chain) }, async (source) => {
      assert.equal((await changesOf(source)).length, 2);
      await assert.rejects(changesOf(source), (error: Error & { code?: string; retryable?: boolean }) => {
        assert.deepEqual([error.code, error.retryable], ['FormatUnsupported', false]);
        assert.match(error.message, /exports a chain of images \(at offset 8192 .* its dirty bitmap may be the backing file's/);
        return true;
      });
    });
  });

  it('fails within the time limit of a silent server, and at once when it is cancelled', () =>
    withChanges({ answer: () => undefined }, async (source) => {
      const controller = new AbortController();
      const asked = changesOf(source, controller.signal);
      controller.abort();
      await assert.rejects(asked, { code: 'Cancelled' });
      await assert.rejects(changesOf(source), failedAt(0, /no answer within 1 s/, ASKING));
    }));

  it('is no use when the connection ends between the map and the data', () => {
    const answer = (request: NbdRequest, socket: Socket) => {
      if (request.type === 7) return statusReply(request, { ...whole, [BITMAP]: [SIZE_BYTES, DIRTY] });
      if (request.offset > 0) socket.destroy();
      return request.offset > 0 ? undefined : dataChunk(request.offset, bytesOf(request), { cookie: request.cookie, flags: DONE });
    };
    const use = async (source: TrackedSource) => {
      assert.equal((await changesOf(source)).length, 1);
      await source.read(Buffer.alloc(512), 0, NEVER);
      await assert.rejects(source.read(Buffer.alloc(512), 512, NEVER), failedAt(512, /closed the connection|was reset/));
      await assert.rejects(changesOf(source), failedAt(0, /closed the connection|was reset/, ASKING));
    };
    // The server complains of its own end.
    return withChanges({ answer }, use, ['Premature close']);
  });

  const missing: [string, Partial<NbdFakeOptions>][] = [
    ['has no such bitmap', { contexts: { 'base:allocation': ALLOCATION, 'qemu:dirty-bitmap:Nightly': BITMAP } }],
    ['has no metadata contexts', { allocation: false }],
    ['has no structured replies', { structured: false }],
  ];
  for (const [what, options] of missing)
    it(`is missed at once where the server ${what}`, () =>
      assert.rejects(
        withChanges(options, () => assert.fail('opened')),
        { code: 'SourceNotFound', message: /: the server does not report the dirty bitmap nightly with this export, and no bitmap; / },
      ));
});
