import assert from 'node:assert/strict';
import { type Clock, systemClock } from '../../../src/common/clock.ts';
import type { DiskPlan, EngineContext } from '../../../src/engine/contract.ts';
import { countReads } from '../../../src/engine/count-reads.ts';
import { runExport } from '../../../src/engine/run-export.ts';
import type { VirtualImage } from '../../../src/image/contract.ts';
import { createVirtualImage } from '../../../src/image/virtual-image.ts';
import { createAllocationMapBuilder } from '../../../src/qcow2/write/allocation-map.ts';
import { createLayout } from '../../../src/qcow2/write/layout.ts';
import { trackBlocks } from '../../../src/sources/changed/block-hashes/track-blocks.ts';
import type { DiskSource, FileExtent, SourceExtent } from '../../../src/sources/contract.ts';
import type { ExportTarget, Receipt, TransferContext } from '../../../src/targets/contract.ts';
import { blocksOfDisk, trackedOn } from '../../helpers/block-hashes.ts';
import { DEFAULT_OPTIONS, NEVER } from '../../helpers/image-in-process.ts';
import { UNCONTESTED_CLAIM } from '../../helpers/uncontested-claim.ts';

const SIZE_BYTES = 4 * 65_536;

/** A source as a user of the package may write it: a class whose methods use `this`. */
class ClassDisk implements DiskSource {
  readonly name = 'class.img';
  readonly sizeBytes = SIZE_BYTES;
  isDisposed = false;
  private readonly fill = 7;

  async *extents(): AsyncGenerator<SourceExtent> {
    yield { offset: 0, length: this.sizeBytes, kind: 'data' };
  }
  async read(buffer: Uint8Array): Promise<void> {
    buffer.fill(this.fill);
  }
  showsData(): boolean {
    return this.fill === 7;
  }
  *fileExtents(offset: number, length: number): Generator<FileExtent> {
    yield { offset, length, fd: this.fill, fileOffset: offset };
  }
  async identity() {
    return { fill: `${this.fill}` };
  }
  async dispose(): Promise<void> {
    this.isDisposed = true;
  }
}

class ClassTarget implements ExportTarget {
  private bytes = 0;
  async send(image: VirtualImage, { signal, seal }: TransferContext): Promise<Receipt> {
    for await (const chunk of image.stream({ signal })) this.bytes += chunk.length;
    await seal();
    return { location: 'memory', sizeBytes: this.bytes, proof: 'close' };
  }
  async abandon(): Promise<void> {}
}

class ClassPlan implements DiskPlan {
  readonly path = 'class.img';
  readonly qcow2 = DEFAULT_OPTIONS;
  readonly zeroDetection = 'content';
  readonly disk = new ClassDisk();
  async openSource(): Promise<DiskSource> {
    return this.disk;
  }
  async createTarget(): Promise<ExportTarget> {
    return new ClassTarget();
  }
}

class ClassContext implements EngineContext {
  readonly signal = NEVER;
  readonly claim = UNCONTESTED_CLAIM;
  readonly clock: Clock = systemClock;
  readonly observer = {};
  private readonly warnings: string[] = [];
  random(): number {
    return this.warnings.length;
  }
  warn(message: string): void {
    this.warnings.push(message);
  }
}

describe('parts that are objects of a class', () => {
  it('a counted source keeps its methods, and counts the bytes read', async () => {
    const state = { readBytes: 0 };
    const counted = countReads(new ClassDisk(), state);
    const extents: SourceExtent[] = [];
    for await (const extent of counted.extents(NEVER)) extents.push(extent);
    assert.deepEqual(extents, [{ offset: 0, length: SIZE_BYTES, kind: 'data' }]);
    const buffer = Buffer.alloc(1000);
    await counted.read(buffer, 0, NEVER);
    assert.ok(buffer.equals(Buffer.alloc(1000, 7)));
    assert.equal(state.readBytes, 1000);
    assert.deepEqual(await counted.identity(), { fill: '7' });
    assert.equal(counted.showsData?.(0), true);
    assert.equal(counted.fileExtents, undefined, 'bytes that the kernel moves by itself cannot be counted');
  });

  it('a counted source counts what its map of changes reads, and keeps its recorder', async () => {
    const state = { readBytes: 0 };
    const base = await blocksOfDisk(new ClassDisk());
    const counted = countReads(await trackedOn(new ClassDisk(), base), state);
    const { changed } = counted;
    assert.ok(changed !== undefined);
    for await (const { isChanged } of changed.extents(NEVER)) assert.equal(isChanged, false);
    assert.deepEqual([state.readBytes, changed.baseSizeBytes, counted.changesFrom], [SIZE_BYTES, SIZE_BYTES, 'BlockHashes']);
    await changed.confirm?.(countReads(new ClassDisk(), state), NEVER);
    assert.equal(state.readBytes, 2 * SIZE_BYTES);
    assert.ok(countReads(await trackBlocks(new ClassDisk(), { signal: NEVER }), state).recorder !== undefined);
  });

  it('a virtual image finds where the bytes of such a source lie', () => {
    const builder = createAllocationMapBuilder(SIZE_BYTES, 65_536);
    builder.append('data', 4);
    const image = createVirtualImage({ source: new ClassDisk(), layout: createLayout(builder.build(), DEFAULT_OPTIONS), identity: {} });
    const runs = [...(image.fileExtents?.(0, image.sizeBytes) ?? [])];
    assert.deepEqual(
      runs.map(({ fd, length }) => [fd, length]),
      [[7, SIZE_BYTES]],
    );
  });

  it('an export arrives whose plan, source, target and context are such objects', async () => {
    const plan = new ClassPlan();
    const { phase, disks } = await runExport({ checksum: 'SHA256', backoffLimit: 0, disks: [plan] }, new ClassContext());
    assert.equal(phase, 'Succeeded', disks[0]?.failure?.message);
    assert.ok(plan.disk.isDisposed);
  });
});
