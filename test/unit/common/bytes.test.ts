import assert from 'node:assert/strict';
import { alignDown, alignUp, formatBytes, isPowerOfTwo, parseBytes } from '../../../src/common/bytes.ts';

describe('bytes', () => {
  it('aligns beyond 32 bits', () => {
    assert.equal(alignUp(2 ** 44 + 1, 512), 2 ** 44 + 512);
    assert.equal(alignDown(2 ** 44 + 511, 512), 2 ** 44);
    assert.equal(alignUp(1024, 512), 1024);
  });

  it('knows the powers of two', () => {
    assert.deepEqual([1, 2, 512, 2 ** 40].map(isPowerOfTwo), [true, true, true, true]);
    assert.deepEqual([0, -2, 3, 513, 2.5, Number.NaN, Number.POSITIVE_INFINITY].map(isPowerOfTwo), Array(7).fill(false));
  });

  const sizes: [string, number | undefined][] = [
    ['65536', 65_536],
    ['64K', 65_536],
    ['64k', 65_536],
    ['64Ki', 65_536],
    ['64KiB', 65_536],
    ['2M', 2_097_152],
    ['1G', 1_073_741_824],
    ['0', 0],
    ['', undefined],
    ['K', undefined],
    ['-1', undefined],
    ['1.5M', undefined],
    ['0x200', undefined],
    ['64 K', undefined],
    ['1T', undefined],
  ];
  for (const [text, bytes] of sizes) {
    it(`reads ${JSON.stringify(text)} as ${bytes} on the command line`, () => assert.equal(parseBytes(text, 'qemu'), bytes));
  }

  const quantities: [string, number | undefined][] = [
    ['65536', 65_536],
    ['64Ki', 65_536],
    ['64K', 64_000],
    ['64k', 64_000],
    ['16M', 16_000_000],
    ['16Mi', 16_777_216],
    ['5G', 5_000_000_000],
    ['5Gi', 5_368_709_120],
    ['64ki', undefined],
    ['16m', undefined],
    ['64KiB', undefined],
    ['1e3', undefined],
    ['', undefined],
  ];
  for (const [text, bytes] of quantities) {
    it(`reads ${JSON.stringify(text)} as ${bytes} in a resource`, () => assert.equal(parseBytes(text, 'kubernetes'), bytes));
  }

  it('writes sizes for people', () => {
    assert.deepEqual([0, 1023, 1024, 1536, 2 ** 43].map(formatBytes), ['0 B', '1023 B', '1 KiB', '1.5 KiB', '8 TiB']);
  });
});
