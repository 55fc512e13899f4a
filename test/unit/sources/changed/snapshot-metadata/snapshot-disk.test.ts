import assert from 'node:assert/strict';
import { MIB } from '../../../../../src/common/bytes.ts';
import { systemClock } from '../../../../../src/common/clock.ts';
import { listData, type SnapshotDiskOptions, trackChanges } from '../../../../../src/sources/changed/snapshot-metadata/snapshot-disk.ts';
import type { DiskSource, SourceExtent } from '../../../../../src/sources/contract.ts';
import { failsWith } from '../../../../helpers/failure.ts';
import { NEVER } from '../../../../helpers/image-in-process.ts';
import { createMemoryDisk } from '../../../../helpers/memory-disk.ts';
import {
  CAPACITY_BYTES,
  NAMESPACE,
  type PlayedMessage,
  type PlayedService,
  playMetadataService,
} from '../../../../helpers/played-metadata-service.ts';
import { useTempDir } from '../../../../helpers/temp-dir.ts';

describe('a clone of a snapshot with a list of the SnapshotMetadata service', () => {
  const temp = useTempDir();
  let played: PlayedService | undefined;

  afterEach(async () => {
    await played?.[Symbol.asyncDispose]();
  });

  /** A disk with data at one offset. */
  function diskOf(sizeBytes: number, dataAt: number): DiskSource {
    const bytes = Buffer.alloc(sizeBytes);
    bytes[dataAt] = 1;
    return createMemoryDisk(bytes, [{ offset: 0, length: sizeBytes, kind: 'data' }]).source;
  }

  async function optionsFor(disk: DiskSource, messages: readonly PlayedMessage[]): Promise<SnapshotDiskOptions & { baseHandle: string }> {
    played = await playMetadataService(temp, () => ({ messages }));
    const { service } = played;
    return {
      disk,
      service,
      snapshot: { namespace: NAMESPACE, name: 'today' },
      baseHandle: 'h-1',
      clock: systemClock,
      random: Math.random,
      signal: NEVER,
    };
  }

  async function all<T>(extents: AsyncIterable<T>): Promise<T[]> {
    const found: T[] = [];
    for await (const extent of extents) found.push(extent);
    return found;
  }

  it('calls the listed ranges changed, and the bytes behind the end of the volume too', async () => {
    const options = await optionsFor(diskOf(CAPACITY_BYTES + 512, 0), [{ ranges: [[4096, 512]] }]);
    const disk = await trackChanges(options);
    assert.deepEqual(
      (await all(disk.changed?.extents(NEVER) ?? assert.fail())).map(({ offset, length, isChanged }) => [offset, length, isChanged]),
      [
        [0, 4096, false],
        [4096, 512, true],
        [4608, CAPACITY_BYTES - 4608, false],
        [CAPACITY_BYTES, 512, true],
      ],
    );
    const { snapshot, changedSince } = await disk.identity();
    assert.deepEqual([snapshot, changedSince], ['today', 'h-1']);
  });

  it('is refused when the disk is smaller than the volume of the list, or is an image', async () => {
    const options = await optionsFor(diskOf(CAPACITY_BYTES - 512, 0), [{ ranges: [] }]);
    await assert.rejects(trackChanges(options), failsWith('ChangesRefused', /of a volume of 1048576 bytes, and the disk has 1048064/));
    const image = { ...diskOf(CAPACITY_BYTES, 0), format: 'qcow2' };
    await assert.rejects(trackChanges({ ...options, disk: image }), failsWith('ChangesRefused', /qcow2/));
    assert.equal(await listData({ ...options, disk: image }, assert.fail), image);
  });

  async function dataOf(disk: DiskSource, messages: readonly PlayedMessage[]): Promise<{ extents: SourceExtent[]; warnings: string[] }> {
    const warnings: string[] = [];
    const { baseHandle: _, ...options } = await optionsFor(disk, messages);
    const listed = await listData(options, (message) => warnings.push(message));
    return { extents: await all(listed.extents(NEVER)), warnings };
  }

  it('has data where the list has ranges, and zeros elsewhere', async () => {
    assert.deepEqual(await dataOf(diskOf(CAPACITY_BYTES, 5000), [{ ranges: [[4096, 4096]] }]), {
      warnings: [],
      extents: [
        { offset: 0, length: 4096, kind: 'zeros' },
        { offset: 4096, length: 4096, kind: 'data' },
        { offset: 8192, length: CAPACITY_BYTES - 8192, kind: 'zeros' },
      ],
    });
  });

  it('is read as a whole, with a warning, when the list lacks data or is refused', async () => {
    const whole: SourceExtent[] = [{ offset: 0, length: CAPACITY_BYTES, kind: 'data' }];
    const lacking = await dataOf(diskOf(CAPACITY_BYTES, CAPACITY_BYTES - 1), [{ ranges: [[0, 4096]] }]);
    assert.deepEqual(lacking.extents, whole);
    assert.match(lacking.warnings[0] ?? '', /has data at offset 1044480, which the driver's list of allocated blocks lacks/);
    await played?.[Symbol.asyncDispose]();
    const inside = await dataOf(diskOf(48 * MIB, 16 * MIB + 7), [{ capacityBytes: 48 * MIB, ranges: [[0, 4096]] }]);
    assert.deepEqual(inside.extents, [{ offset: 0, length: 48 * MIB, kind: 'data' }], 'far from the ends and the middle of the gap');
    await played?.[Symbol.asyncDispose]();
    const refused = await dataOf(diskOf(CAPACITY_BYTES, 0), [{ ranges: [[CAPACITY_BYTES, 1]] }]);
    assert.deepEqual(refused.extents, whole);
    assert.match(refused.warnings[0] ?? '', /the whole disk is read/);
  });
});
