import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Piece, readPieces } from '../../../src/common/read-pieces.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const content = randomBytes(16 * MIB);

describe('reading pieces', () => {
  let reads: [offset: number, length: number][];
  beforeEach(() => {
    reads = [];
  });

  async function read(buffer: Uint8Array, offset: number): Promise<void> {
    reads.push([offset, buffer.length]);
    await nextTurn();
    buffer.set(content.subarray(offset, offset + buffer.length));
  }

  const piecesAt = (...places: [offset: number, length: number][]): Piece[] =>
    places.map(([offset, length]) => ({ offset, target: Buffer.alloc(length) }));

  function assertRead(pieces: readonly Piece[]): void {
    for (const { offset, target } of pieces) assert.ok(content.subarray(offset, offset + target.length).equals(target), `at ${offset}`);
  }

  it('reads short neighbours by one read, with the bytes between them', async () => {
    const pieces = piecesAt(...Array.from({ length: 2000 }, (_, index): [number, number] => [index * 8 * KIB, 4 * KIB]));
    await readPieces(pieces, read);
    assertRead(pieces);
    assert.ok(reads.length <= 17, `${reads.length} reads`);
    assert.ok(reads.every(([, length]) => length <= MIB));
  });

  it('reads a piece by itself when it is long, far away, before its predecessor, or overlaps it', async () => {
    const places: [number, number][] = [
      [0, 4 * KIB],
      [4 * KIB, 65 * KIB],
      [70 * KIB, 4 * KIB],
      [107 * KIB, 4 * KIB],
      [50 * KIB, 4 * KIB],
      [53 * KIB, 4 * KIB],
    ];
    const pieces = piecesAt(...places);
    await readPieces(pieces, read);
    assertRead(pieces);
    assert.deepEqual(
      reads.toSorted((a, b) => a[0] - b[0]),
      places.toSorted((a, b) => a[0] - b[0]),
    );
  });

  it('reads a single piece into its own target, and does nothing without pieces', async () => {
    const [piece] = piecesAt([5, 7]);
    await readPieces([piece as Piece], async (buffer, offset) => {
      assert.equal(buffer, piece?.target);
      await read(buffer, offset);
    });
    await readPieces([], () => assert.fail('nothing is to be read'));
  });

  it('succeeds although bytes between the pieces cannot be read, and reads the pieces of that group only one by one', async () => {
    const pieces = piecesAt(...Array.from({ length: 600 }, (_, index): [number, number] => [index * 8 * KIB, 4 * KIB]));
    const brokenAt = 300 * 8 * KIB + 4 * KIB;
    await readPieces(pieces, async (buffer, offset) => {
      await read(buffer, offset);
      if (offset <= brokenAt && brokenAt < offset + buffer.length) throw new Error('EIO');
    });
    assertRead(pieces);
    assert.ok(reads.length <= 5 + MIB / (8 * KIB), `${reads.length} reads`);
  });

  it('throws the failure of the piece that cannot be read', async () => {
    const pieces = piecesAt(...Array.from({ length: 20 }, (_, index): [number, number] => [index * 8 * KIB, 4 * KIB]));
    const brokenAt = 10 * 8 * KIB;
    const broken = readPieces(pieces, async (buffer, offset) => {
      await read(buffer, offset);
      if (offset <= brokenAt && brokenAt < offset + buffer.length) throw new Error(`EIO at ${offset}`);
    });
    await assert.rejects(broken, { message: `EIO at ${brokenAt}` });
    assert.equal(reads.length, 1 + 11);
  });

  it('starts no merged read after a single piece has failed', async () => {
    const places = Array.from({ length: 2000 }, (_, index): [number, number] => [index * 8 * KIB, 4 * KIB]);
    const pieces = [...piecesAt([15 * MIB + 900 * KIB, 100 * KIB]), ...piecesAt(...places.slice(0, 1500))];
    const failed = readPieces(pieces, async (buffer, offset) => {
      if (buffer.length === 100 * KIB) throw new Error('broken');
      await read(buffer, offset);
    });
    await assert.rejects(failed, /broken/);
    const atFailure = reads.length;
    await nextTurn();
    await nextTurn();
    assert.equal(reads.length, atFailure);
  });

  it('throws the failure of the read, and starts no other read after it', async () => {
    const pieces = piecesAt(...Array.from({ length: 2000 }, (_, index): [number, number] => [index * 8 * KIB, 4 * KIB]));
    let begun = 0;
    await assert.rejects(
      readPieces(pieces, async () => {
        begun += 1;
        await nextTurn();
        throw new Error('broken');
      }),
      /broken/,
    );
    const atFailure = begun;
    await nextTurn();
    await nextTurn();
    assert.equal(begun, atFailure);
    assert.ok(begun <= 8, 'each lane reads one group, and one piece of it');
  });

  it('does not reuse a buffer that a failed read may still write to', async () => {
    const places: [number, number][] = [
      [0, KIB],
      [2 * KIB, KIB],
    ];
    let late: Uint8Array | undefined;
    const failing = async (buffer: Uint8Array) => {
      late = buffer;
      throw new Error('left behind');
    };
    await assert.rejects(readPieces(piecesAt(...places), failing), /left behind/);
    const pieces = piecesAt(...places);
    await readPieces(pieces, async (buffer, offset) => {
      await read(buffer, offset);
      late?.fill(0);
    });
    assertRead(pieces);
  });
});
