import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { DEFAULT_PACE, PaceWatch } from '../../../../src/targets/pace-watch.ts';
import { bytesInMemory, hashPieces } from '../../../../src/targets/s3/part-bytes.ts';
import { bodyOf, createPayload } from '../../../../src/targets/s3/send-payload.ts';
import { NEVER } from '../../../helpers/image-in-process.ts';

const MIB = 1024 * 1024;

describe('payload of a part', () => {
  const memory = Buffer.alloc(16 * MIB + 5, 'disklift');
  const bytes = bytesInMemory(memory);

  it('is hashed in pieces, between which others have their turn', async () => {
    const lengths: number[] = [];
    let turns = 0;
    const timer = setImmediate(function again() {
      turns += 1;
      if (lengths.length < 33) setImmediate(again);
    });
    await hashPieces({ update: (piece) => lengths.push(piece.length) }, bytes, { signal: NEVER });
    clearImmediate(timer);
    assert.deepEqual(lengths, [...new Array<number>(32).fill(MIB / 2), 5]);
    assert.ok(turns >= 31, `${turns} turns`);
  });

  it('stops hashing after a cancel', async () => {
    const cancel = new AbortController();
    let pieces = 0;
    const update = () => {
      pieces += 1;
      if (pieces === 3) cancel.abort(new DiskliftError('Cancelled', 'enough'));
    };
    await assert.rejects(hashPieces({ update }, bytes, { signal: cancel.signal }), /enough/);
    assert.equal(pieces, 3);
  });

  it('has the SHA-256 that a signature is made of, or leaves the bytes to TLS', async () => {
    const { contentSha256 } = await createPayload(bytes, { isSigned: true, checksum: 'None', signal: NEVER });
    assert.equal(contentSha256, createHash('sha256').update(memory).digest('hex'));
    assert.equal((await createPayload(bytes, { isSigned: false, checksum: 'None', signal: NEVER })).contentSha256, 'UNSIGNED-PAYLOAD');
  });

  for (const [isSigned, how, pieceBytes] of [
    [true, 'slices', MIB],
    [false, 'smaller slices to TLS', MIB / 4],
  ] as const)
    it(`goes out in ${how}, and reports when the last one was given`, async () => {
      const payload = await createPayload(bytes, { isSigned, checksum: 'None', signal: NEVER });
      const pace = new PaceWatch({ where: 'server', clock: systemClock, limits: DEFAULT_PACE });
      const body = bodyOf(payload, { pace, signal: NEVER });
      assert.equal(body.isTaken(), false);
      const slices: Buffer[] = [];
      for await (const slice of body.stream) slices.push(slice as Buffer);
      assert.ok(slices.every(({ length }) => length <= pieceBytes));
      assert.ok(Buffer.concat(slices).equals(memory));
      assert.ok(body.isTaken() && slices.length >= 17, `${slices.length} slices`);
      pace.stop();
    });
});
