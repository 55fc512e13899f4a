import assert from 'node:assert/strict';
import { larger, quantityBytesOf } from '../../../src/controller/quantity.ts';

describe('quantities of Kubernetes', () => {
  for (const [text, bytes] of [
    ['0', 0],
    ['1024', 1024],
    ['+5', 5],
    ['10Gi', 10 * 2 ** 30],
    ['1.5Ti', 1.5 * 2 ** 40],
    ['.5Mi', 2 ** 19],
    ['3.', 3],
    ['1k', 1000],
    ['1Ki', 1024],
    ['2M', 2e6],
    ['1E', 1e18],
    ['1Ei', 2 ** 60],
    ['1e3', 1000],
    ['12E2', 1200],
    ['1500m', 1.5],
    ['', undefined],
    ['-1', undefined],
    ['1K', undefined],
    ['1ki', undefined],
    ['10 Gi', undefined],
    ['Gi', undefined],
    ['1e', undefined],
    ['0x10', undefined],
  ] as const)
    it(`${text === '' ? 'an empty text' : text} is ${bytes === undefined ? 'no quantity' : `${bytes} bytes`}`, () => {
      assert.equal(quantityBytesOf(text), bytes);
    });

  it('are compared by their bytes, and one that cannot be read counts as missing', () => {
    assert.equal(larger('10Gi', '10737418241'), '10737418241');
    assert.equal(larger('10Gi', '10G'), '10Gi');
    assert.equal(larger('1Gi', '1024Mi'), '1Gi');
    assert.equal(larger(undefined, '1Gi'), '1Gi');
    assert.equal(larger('1Gi', 'much'), '1Gi');
    assert.equal(larger('much', undefined), undefined);
  });
});
