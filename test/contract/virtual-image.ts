/** The shared suite of the contract VirtualImage. Each kind of image calls it with a function that opens one. */

import assert from 'node:assert/strict';
import { readSync } from 'node:fs';
import fc from 'fast-check';
import type { VirtualImage } from '../../src/image/contract.ts';
import { NEVER } from '../helpers/image-in-process.ts';
import { SEED, SEED_TEXT } from '../helpers/seed.ts';

export interface OpenedImage extends AsyncDisposable {
  image: VirtualImage;
}

const MAX_READ_BYTES = 200_000;

async function streamed(image: VirtualImage, range: { start?: number; end?: number } = {}): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of image.stream({ ...range, signal: NEVER })) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

/** @param open opens a new image of the same disk each time */
export function describeVirtualImage(what: string, open: () => Promise<OpenedImage>): void {
  describe(`the virtual image of ${what}`, () => {
    it('has exactly the size that it states, and the same bytes and fingerprint each time', async () => {
      await using first = await open();
      await using second = await open();
      const bytes = await streamed(first.image);
      assert.equal(bytes.length, first.image.sizeBytes);
      assert.ok(bytes.equals(await streamed(first.image)), 'the same image again');
      assert.ok(bytes.equals(await streamed(second.image)), 'another image of the same disk');
      assert.equal(second.image.fingerprint, first.image.fingerprint);
    });

    it(`reads and streams any range as a part of the whole, several at once ${SEED_TEXT}`, async () => {
      await using opened = await open();
      const { image } = opened;
      const whole = await streamed(image);
      const ranges = fc.array(fc.tuple(fc.nat({ max: image.sizeBytes }), fc.nat({ max: MAX_READ_BYTES })), { maxLength: 8 });
      await fc.assert(
        fc.asyncProperty(ranges, async (wanted) => {
          const reads = wanted.map(async ([start, length]) => {
            const end = Math.min(start + length, image.sizeBytes);
            const buffer = Buffer.alloc(end - start, 0xee);
            await image.read(buffer, start, NEVER);
            assert.ok(buffer.equals(whole.subarray(start, end)), `read ${start} to ${end}`);
            assert.ok((await streamed(image, { start, end })).equals(buffer), `stream ${start} to ${end}`);
          });
          await Promise.all(reads);
        }),
        { seed: SEED, numRuns: 60, interruptAfterTimeLimit: 4000, markInterruptAsFailure: false },
      );
    });

    it('refuses bytes behind its end', async () => {
      await using opened = await open();
      const { image } = opened;
      await assert.rejects(image.read(Buffer.alloc(2), image.sizeBytes - 1, NEVER), RangeError);
    });

    it('reads nothing for a signal that is aborted', async () => {
      await using opened = await open();
      const { image } = opened;
      const reading = image.read(Buffer.alloc(image.sizeBytes), 0, AbortSignal.abort());
      await assert.rejects(reading, { code: 'Cancelled' });
    });

    it('finds its bytes in files, if it finds them there at all', async () => {
      await using opened = await open();
      const { image } = opened;
      const whole = await streamed(image);
      let at = 0;
      for (const { imageOffset, length, fd, fileOffset } of image.fileExtents?.(0, image.sizeBytes) ?? []) {
        assert.ok(imageOffset >= at && length > 0);
        at = imageOffset + length;
        const bytes = Buffer.alloc(length);
        assert.equal(readSync(fd, bytes, 0, length, fileOffset), length);
        assert.ok(bytes.equals(whole.subarray(imageOffset, at)), `${imageOffset} to ${at}`);
      }
      assert.ok(at <= image.sizeBytes);
    });
  });
}
