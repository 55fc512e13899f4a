import assert from 'node:assert/strict';
import { type Qcow2Options, validateOptions } from '../../../../src/qcow2/write/options.ts';
import { DEFAULT_OPTIONS } from '../../../helpers/image-in-process.ts';

const backingFile = { name: 'full.qcow2', format: 'qcow2' } as const;
const based = (name: string) => ({ backingFile: { ...backingFile, name } });
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
    { backingFile, clusterSizeBytes: 512 },
    { backingFile: { ...backingFile, format: 'raw' } },
    based('../a/b:c'),
    based('./nbd:x'),
    based('..full'),
    based('ö'.repeat(511)),
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
    [{ version: 2, backingFile }, /a base needs version 3/],
    [{ dataFile, backingFile }, /a base cannot have an external data file/],
    [{ backingFile: { ...backingFile, format: 'vmdk' as 'raw' } }, /format of the base, vmdk, is not one of qcow2, raw/],
    [based(''), /is empty/],
    [based('a\nb'), /has characters in it/],
    [based('a\0'), /has characters in it/],
    [based('\ud800'), /has characters in it/],
    [based('/backups/full.qcow2'), /is absolute; give the name that it has relative to/],
    [based('json:{}'), /begins like a protocol of QEMU; put \.\/ in front/],
    [based('https://host/full.qcow2'), /begins like a protocol/],
    [based('..'), /is a directory/],
    [based('a/.'), /is a directory/],
    [based('a/'), /is a directory/],
    [based(`${'ö'.repeat(511)}aa`), /1024 bytes, and QEMU reads at most 1023/],
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
