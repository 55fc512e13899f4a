import assert from 'node:assert/strict';
import { type Qcow2Options, validateOptions } from '../../../../src/qcow2/write/options.ts';
import { DEFAULT_OPTIONS } from '../../../helpers/image-in-process.ts';

const dataFile = { path: '/disks/disk.img', raw: false };

describe('qcow2 options', () => {
  const accepted: Partial<Qcow2Options>[] = [
    {},
    { clusterSizeBytes: 512 },
    { clusterSizeBytes: 2_097_152 },
    { version: 2 },
    { refcountBits: 1 },
    { refcountBits: 64 },
    { dataFile },
    { dataFile: { ...dataFile, raw: true }, clusterSizeBytes: 1024 },
  ];
  for (const options of accepted) {
    it(`accepts ${JSON.stringify(options)}`, () => validateOptions({ ...DEFAULT_OPTIONS, ...options }));
  }

  const refused: [Partial<Qcow2Options>, RegExp][] = [
    [{ clusterSizeBytes: 256 }, /cluster size 256 .* 512 to 2097152/],
    [{ clusterSizeBytes: 4_194_304 }, /cluster size 4194304/],
    [{ clusterSizeBytes: 65_535 }, /cluster size 65535/],
    [{ clusterSizeBytes: 0 }, /cluster size 0/],
    [{ refcountBits: 3 }, /refcount width 3 /],
    [{ refcountBits: 128 }, /refcount width 128 /],
    [{ version: 4 as 3 }, /version 4/],
    [{ version: 2, refcountBits: 8 }, /needs version 3/],
    [{ version: 2, dataFile }, /data file needs version 3/],
    [{ clusterSizeBytes: 512, dataFile }, /data file needs a cluster size above 512/],
    [{ dataFile: { path: '', raw: false } }, /is empty or has control characters/],
    [{ dataFile: { path: 'disk\nimg', raw: false } }, /is empty or has control characters/],
    [{ dataFile: { path: 'nbd:disk.img', raw: false } }, /nbd:disk\.img, begins like a protocol of QEMU; put \.\/ in front of it/],
  ];
  for (const [options, message] of refused) {
    it(`refuses ${JSON.stringify(options)}`, () => {
      assert.throws(() => validateOptions({ ...DEFAULT_OPTIONS, ...options }), { code: 'InvalidRequest', message });
    });
  }
});
