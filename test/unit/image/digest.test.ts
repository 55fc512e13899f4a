import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { VirtualImage } from '../../../src/image/contract.ts';
import { digestImage } from '../../../src/image/digest.ts';
import { type ImageInProcess, NEVER, openImage } from '../../helpers/image-in-process.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

describe('digest', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let expected: string;
  let readBytes: number;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('disk.img'), 8 * MIB, [{ offsetBytes: MIB, lengthBytes: 5 * MIB, content: 'random' }]));
    const whole = Buffer.alloc(opened.image.sizeBytes);
    await opened.image.read(whole, 0, NEVER);
    expected = createHash('sha256').update(whole).digest('hex');
    readBytes = 0;
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  /** The image, with the bytes counted that are streamed from it. */
  function counted(): VirtualImage {
    const { image } = opened;
    return {
      ...image,
      async read(buffer, offset, signal) {
        await image.read(buffer, offset, signal);
        readBytes += buffer.length;
      },
      async *stream(range) {
        for await (const chunk of image.stream(range)) {
          readBytes += chunk.length;
          yield chunk;
        }
      },
    };
  }

  async function drain(image: VirtualImage, start: number, end: number): Promise<void> {
    for await (const _ of image.stream({ start, end, signal: NEVER }));
  }

  it('covers the streamed bytes, and reads them once', async () => {
    const { image, sha256 } = digestImage(counted());
    await drain(image, 0, image.sizeBytes);
    assert.equal(await sha256(NEVER), expected);
    assert.equal(await sha256(NEVER), expected, 'asked again');
    assert.equal(readBytes, image.sizeBytes);
  });

  it('passes the same bytes on', async () => {
    const { image } = digestImage(opened.image);
    const hash = createHash('sha256');
    for await (const chunk of image.stream({ signal: NEVER })) hash.update(chunk);
    assert.equal(hash.digest('hex'), expected);
    assert.equal(image.fileExtents, undefined);
  });

  it('reads the bytes in front of a resumed transfer', async () => {
    const { image, sha256 } = digestImage(counted());
    await drain(image, 3_000_001, image.sizeBytes);
    assert.equal(await sha256(NEVER), expected);
    assert.equal(readBytes, image.sizeBytes);
  });

  it('covers attempts that stop and begin again, and a rest that no caller streams', async () => {
    const { image, sha256 } = digestImage(counted());
    await drain(image, 0, 2 * MIB + 5);
    await drain(image, 0, MIB);
    await drain(image, MIB + 1, 3 * MIB);
    assert.equal(await sha256(NEVER), expected);
  });

  it('covers parts that were read in order, and parts that were read concurrently', async () => {
    for (const isInOrder of [true, false]) {
      readBytes = 0;
      const { image, sha256 } = digestImage(counted());
      const reads: Promise<void>[] = [];
      for (let at = 0; at < image.sizeBytes; at += 3 * MIB) {
        const read = image.read(Buffer.alloc(Math.min(3 * MIB, image.sizeBytes - at)), at, NEVER);
        if (isInOrder) await read;
        reads.push(read);
      }
      await Promise.all(reads);
      assert.equal(await sha256(NEVER), expected);
      if (isInOrder) assert.equal(readBytes, image.sizeBytes, 'read more than once');
    }
  });
});
