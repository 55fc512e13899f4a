import assert from 'node:assert/strict';
import fc from 'fast-check';
import { DiskliftError, type ErrorCode } from '../../../../src/common/errors.ts';
import { partsOf, planParts } from '../../../../src/targets/s3/plan-parts.ts';
import { SEED, SEED_TEXT } from '../../../helpers/seed.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const TIB = 1024 ** 4;

function refusal(wishes: Parameters<typeof planParts>[0]): [code: ErrorCode, message: string] {
  try {
    planParts(wishes);
  } catch (error) {
    assert.ok(error instanceof DiskliftError, String(error));
    return [error.code, error.message];
  }
  return assert.fail('it was planned');
}

describe('parts of an S3 upload', () => {
  const plans: [imageSizeBytes: number, partSizeBytes: number | undefined, expected: [partSizeBytes: number, count: number]][] = [
    [1, undefined, [16 * MIB, 1]],
    [16 * MIB, undefined, [16 * MIB, 1]],
    [16 * MIB + 1, undefined, [16 * MIB, 2]],
    [160_000 * MIB, undefined, [16 * MIB, 10_000]],
    [160_000 * MIB + 1, undefined, [17 * MIB, 9412]],
    [TIB, undefined, [105 * MIB, 9987]],
    [10_000 * 5 * GIB, undefined, [5 * GIB, 10_000]],
    [24 * MIB, 5 * MIB, [5 * MIB, 5]],
    [24 * MIB, 5 * MIB + 3, [5 * MIB + 3, 5]],
    [TIB, 5 * GIB, [5 * GIB, 205]],
  ];
  for (const [imageSizeBytes, partSizeBytes, [expectedBytes, count]] of plans)
    it(`cuts ${imageSizeBytes} bytes, ${partSizeBytes ?? 'no size'} asked for, into ${count}`, () => {
      assert.deepEqual(planParts({ imageSizeBytes, partSizeBytes }), { imageSizeBytes, partSizeBytes: expectedBytes, count });
    });

  it('keeps to the number of parts that the server takes', () => {
    const plan = (imageSizeBytes: number, maxParts: number, partSizeBytes?: number) =>
      planParts({ imageSizeBytes, maxParts, partSizeBytes });
    assert.deepEqual(plan(16_000 * MIB, 1000), { imageSizeBytes: 16_000 * MIB, partSizeBytes: 16 * MIB, count: 1000 });
    assert.deepEqual(plan(16_000 * MIB + 1, 1000), { imageSizeBytes: 16_000 * MIB + 1, partSizeBytes: 17 * MIB, count: 942 });
    assert.deepEqual(plan(5 * GIB, 1), { imageSizeBytes: 5 * GIB, partSizeBytes: 5 * GIB, count: 1 });
    const tooMany = refusal({ imageSizeBytes: 16_000 * MIB, maxParts: 1000, partSizeBytes: 8 * MIB });
    assert.equal(tooMany[0], 'InvalidRequest');
    assert.match(tooMany[1], /in at most 1000 parts: the smallest that does is 16777216 /);
    const tooLarge = refusal({ imageSizeBytes: 5001 * GIB, maxParts: 1000 });
    assert.equal(tooLarge[0], 'ImageTooLarge');
    assert.match(tooLarge[1], /an S3 object of 1000 parts has at most /);
  });

  it('refuses sizes that do not work, and names the smallest that does', () => {
    for (const partSizeBytes of [0, -1, 5 * MIB - 1, 5 * GIB + 1, 5 * MIB + 0.5, Number.NaN]) {
      const [code, message] = refusal({ imageSizeBytes: GIB, partSizeBytes });
      assert.equal(code, 'InvalidRequest');
      assert.match(message, /the smallest that does is 5242880 \(5 MiB\)/);
    }
    const [code, message] = refusal({ imageSizeBytes: TIB, partSizeBytes: 100 * MIB });
    assert.equal(code, 'InvalidRequest');
    assert.match(message, new RegExp(`the smallest that does is ${105 * MIB} `));
  });

  it('refuses an image that is larger than any object', () => {
    assert.equal(refusal({ imageSizeBytes: 10_000 * 5 * GIB + 1 })[0], 'ImageTooLarge');
  });

  it(`covers any image with equal parts, and a last one that is not larger ${SEED_TEXT}`, () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000 * 5 * GIB }), fc.option(fc.integer({ min: 5 * MIB, max: 5 * GIB })), (size, asked) => {
        fc.pre(asked === null || size / asked <= 10_000);
        const plan = planParts({ imageSizeBytes: size, partSizeBytes: asked ?? undefined });
        assert.ok(plan.count <= 10_000 && plan.partSizeBytes >= 5 * MIB && plan.partSizeBytes <= 5 * GIB);
        let end = 0;
        let number = 0;
        for (const part of partsOf(plan)) {
          number += 1;
          assert.deepEqual([part.number, part.offset], [number, end]);
          assert.ok(
            number < plan.count ? part.sizeBytes === plan.partSizeBytes : part.sizeBytes <= plan.partSizeBytes && part.sizeBytes > 0,
          );
          end += part.sizeBytes;
        }
        assert.deepEqual([number, end], [plan.count, size]);
      }),
      { seed: SEED, numRuns: 50 },
    );
  });
});
