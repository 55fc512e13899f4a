import assert from 'node:assert/strict';
import { cancelledError } from '../../../../src/common/abortable.ts';
import type { ChangedExtent } from '../../../../src/sources/changed/contract.ts';
import { digestOfChanges } from '../../../../src/sources/changed/digest.ts';
import { MIN_SLICE_BYTES, wholeMap } from '../../../../src/sources/changed/whole-map.ts';
import { NEVER } from '../../../helpers/image-in-process.ts';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

const extent = (offset: number, length: number, isChanged = false): ChangedExtent => ({ offset, length, kind: 'data', isChanged });

interface Asked {
  extents: ChangedExtent[];
  questions: [offset: number, length: number][];
}

async function askAll(
  sizeBytes: number,
  answer: (offset: number, length: number) => Iterable<ChangedExtent> | Promise<Iterable<ChangedExtent>>,
  signal = NEVER,
): Promise<Asked> {
  const asked: Asked = { extents: [], questions: [] };
  const ask = async (offset: number, length: number) => {
    asked.questions.push([offset, length]);
    return answer(offset, length);
  };
  for await (const found of wholeMap({ name: 'disk', sizeBytes, sliceBytes: 4 * GIB, ask, signal })) asked.extents.push(found);
  return asked;
}

describe('the whole map of changes', () => {
  it('is one answer where that is whole, also of an empty disk', async () => {
    const extents = [extent(0, 4096), extent(4096, 4096, true)];
    assert.deepEqual(await askAll(8192, () => extents), { extents, questions: [[0, 8192]] });
    assert.deepEqual(await askAll(0, () => assert.fail('nothing to ask')), { extents: [], questions: [] });
  });

  it('is asked for again where an answer ended, in slices of the given size', async () => {
    const { questions } = await askAll(9 * GIB, (offset) => [extent(offset, 3 * GIB)]);
    assert.deepEqual(questions, [
      [0, 4 * GIB],
      [3 * GIB, 4 * GIB],
      [6 * GIB, 3 * GIB],
    ]);
  });

  it('may go on behind the slice', async () => {
    const { questions } = await askAll(9 * GIB, () => [extent(0, 9 * GIB)]);
    assert.equal(questions.length, 1);
  });

  it('is asked for again from a gap on, in smaller slices, with which a server loses nothing', async () => {
    // A server that answers with the first and the last extents of a large slice.
    const { extents, questions } = await askAll(2 * GIB, (offset, length) =>
      length > 256 * MIB ? [extent(offset, 4096), extent(offset + length - 4096, 4096)] : [extent(offset, length, true)],
    );
    let at = 0;
    for (const { offset, length } of extents) {
      assert.equal(offset, at);
      at += length;
    }
    assert.equal(at, 2 * GIB);
    assert.ok(questions.length < 40, `${questions.length} questions`);
  });

  const refused: [string, (offset: number, length: number) => Iterable<ChangedExtent>, RegExp][] = [
    ['has a gap whatever the slice', (offset) => [extent(offset + 512, 512)], /offset 0: it lacks the bytes from there on/],
    ['is empty', () => [], /offset 0: it lacks the bytes from there on/],
    ['has a gap at the end', (offset) => (offset === 0 ? [extent(0, GIB - 512)] : []), /offset 1073741312: it lacks the bytes/],
    [
      'goes beyond the end',
      (offset, length) => [extent(offset, length + 512)],
      /goes on to offset 1073742336, and the disk ends at 1073741824/,
    ],
    ['overlaps', (offset) => [extent(offset, 1024), extent(offset + 512, 1024)], /1024 bytes at offset 512, out of order/],
    ['begins in front of the question', (offset) => [extent(Math.max(0, offset - 512), 1024)], /at offset 512, out of order/],
    ['has an extent of no length', (offset) => [extent(offset, 0)], /0 bytes at offset 0, out of order/],
  ];
  for (const [what, answer, message] of refused)
    it(`is refused where it ${what}`, async () => {
      await assert.rejects(askAll(GIB, answer), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'ChangesRefused');
        assert.match(error.message, /^disk: the map of changed blocks cannot be used at .*; make a full image instead$/);
        assert.match(error.message, message);
        return true;
      });
    });

  it('is given up after a gap in the smallest slice, which no known server cuts', async () => {
    const lengths: number[] = [];
    const answer = (_: number, length: number) => {
      lengths.push(length);
      return [];
    };
    await assert.rejects(askAll(16 * GIB, answer), /it lacks the bytes/);
    assert.deepEqual(lengths, [4 * GIB, 512 * MIB, MIN_SLICE_BYTES]);
  });

  it('ends with the error of the question, and when it is cancelled', async () => {
    await assert.rejects(
      askAll(GIB, () => Promise.reject(new Error('gone'))),
      /^Error: gone$/,
    );
    const controller = new AbortController();
    controller.abort(cancelledError(controller.signal));
    await assert.rejects(
      askAll(GIB, () => [extent(0, 512)], controller.signal),
      { code: 'Cancelled' },
    );
    const whileAsked = new AbortController();
    const hangs = new Promise<never>(() => whileAsked.abort(cancelledError(whileAsked.signal)));
    await assert.rejects(
      askAll(GIB, () => hangs, whileAsked.signal),
      { code: 'Cancelled' },
    );
  });
});

describe('the digest of changes', () => {
  async function digest(...lengths: [length: number, isChanged: boolean, kind?: ChangedExtent['kind']][]): Promise<string> {
    const extents = async function* () {
      let offset = 0;
      for (const [length, isChanged, kind = 'data'] of lengths) {
        yield { offset, length, isChanged, kind };
        offset += length;
      }
    };
    return digestOfChanges(extents());
  }

  it('depends on where changed bytes begin and end, and on nothing else', async () => {
    const expected = await digest([4096, false], [512, true], [8192, false]);
    assert.equal(await digest([1024, false], [3072, false, 'zeros'], [256, true], [256, true, 'zeros'], [8192, false]), expected);
    const others = [
      await digest([4096, true], [512, false], [8192, true]),
      await digest([4096, false], [512, true], [512, false], [512, true], [7168, false]),
      await digest([4096, false], [1024, true], [7680, false]),
      await digest([4096, false], [8704, true]),
      await digest([12_800, false]),
      await digest(...Array.from({ length: 20_000 }, (_, index): [number, boolean] => [512, index % 2 === 0])),
    ];
    assert.equal(new Set([expected, ...others]).size, 7);
  });
});
