import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { createCrc32c, createCrc64Nvme } from '../../../../src/targets/s3/crc.ts';
import { bytesInMemory } from '../../../../src/targets/s3/part-bytes.ts';
import { checksumOf, isSameChecksum } from '../../../../src/targets/s3/part-proof.ts';
import { NEVER } from '../../../helpers/image-in-process.ts';

describe('checksums of S3', () => {
  const bytes = Buffer.from('123456789');

  it('gives the check values of the catalogue of CRC algorithms', () => {
    for (const [crc, check] of [
      [createCrc32c(), 'e3069283'],
      [createCrc64Nvme(), 'ae8b14860a799888'],
    ] as const) {
      crc.update(bytes.subarray(0, 4));
      crc.update(bytes.subarray(4));
      assert.equal(crc.digest().toString('hex'), check);
    }
  });

  it('gives the same whether bytes come in pieces or at once', async () => {
    const long = Buffer.alloc(9 * 1024 * 1024 + 7, 'disklift');
    const { ChecksumCRC32 } = await checksumOf('CRC32', bytesInMemory(long), NEVER);
    assert.equal(Buffer.from(ChecksumCRC32 ?? '', 'base64').readUInt32BE(), crc32(long));
    const whole = createCrc32c();
    whole.update(long);
    assert.deepEqual(await checksumOf('CRC32C', bytesInMemory(long), NEVER), { ChecksumCRC32C: whole.digest().toString('base64') });
  });

  it('compares what can be compared', () => {
    assert.equal(isSameChecksum({}, { ChecksumCRC32: 'a' }), undefined);
    assert.equal(isSameChecksum({ ChecksumCRC32: 'a' }, { ChecksumCRC32C: 'a' }), undefined);
    assert.equal(isSameChecksum({ ChecksumCRC32: 'a' }, { ChecksumCRC32: 'a' }), true);
    assert.equal(isSameChecksum({ ChecksumCRC64NVME: 'a' }, { ChecksumCRC64NVME: 'b' }), false);
  });
});
