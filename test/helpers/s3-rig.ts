/** An image of several parts, and an S3 fake that a test can send it to repeatedly. */

import assert from 'node:assert/strict';
import { DiskliftError } from '../../src/common/errors.ts';
import type { ResumeState } from '../../src/targets/contract.ts';
import { readSavedId } from '../../src/targets/s3/held-uploads.ts';
import { type ImageInProcess, NEVER, openImage } from './image-in-process.ts';
import { KEY, PART_BYTES, type S3Sending, type S3Sent, SECRET, s3Target, sendToS3 } from './s3-export.ts';
import { type Quirk, type S3Fake, type S3FakeOptions, startS3Fake } from './s3-fake.ts';
import { createDisk } from './sparse-disk.ts';
import { useTempDir } from './temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Fails an attempt with an error that is not retryable after that many parts. */
export const afterParts = (parts: number): Quirk => ({
  operation: 'UploadPart',
  after: parts,
  does: { status: 400, code: 'InvalidArgument' },
});

class S3Rig {
  readonly temp = useTempDir();
  opened!: ImageInProcess;
  /** The image. */
  expected!: Buffer;
  fake!: S3Fake;

  async start(): Promise<void> {
    const disk = await createDisk(this.temp('a.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 1344 * KIB, content: 'random' }]);
    this.opened = await openImage(disk);
    this.expected = Buffer.alloc(this.opened.image.sizeBytes);
    await this.opened.image.read(this.expected, 0, NEVER);
    this.fake = await startS3Fake({ minPartBytes: 1, secret: SECRET });
  }

  async stop(): Promise<void> {
    await this.fake[Symbol.asyncDispose]();
    await this.opened[Symbol.asyncDispose]();
  }

  /** Replaces the server by another one. */
  async restart(options: S3FakeOptions): Promise<void> {
    await this.fake[Symbol.asyncDispose]();
    this.fake = await startS3Fake({ minPartBytes: 1, secret: SECRET, ...options });
  }

  /** The number of parts. */
  count(): number {
    return Math.ceil(this.expected.length / PART_BYTES);
  }

  /** The quirks and the requests of the fake are those of the last call. */
  send(sending: Omit<Partial<S3Sending>, 'url'> = {}, ...quirks: Quirk[]): Promise<S3Sent> {
    this.expect(quirks);
    return sendToS3({ image: this.opened.image, url: this.fake.url, ...sending });
  }

  abandon(state: ResumeState, quirks: Quirk[] = []): Promise<void> {
    this.expect(quirks);
    return s3Target({ url: this.fake.url }).abandon(state, NEVER);
  }

  private expect(quirks: Quirk[]): void {
    this.fake.quirks.splice(0, this.fake.quirks.length, ...quirks);
    this.fake.requests.length = 0;
  }

  assertArrived({ failure, receipt, progress }: S3Sent): void {
    assert.equal(failure, undefined);
    assert.ok(receipt !== undefined);
    assert.ok(this.fake.store.objects.get(KEY)?.body.equals(this.expected), 'the object is the image');
    assert.equal(this.fake.store.uploads.size, 0);
    assert.equal(progress.at(-1), this.expected.length);
  }
}

interface Cancellation {
  signal: AbortSignal;
  /** Asserts that `sent` has failed with the abort reason within a second. */
  assertEnded(sent: S3Sent): void;
}

/** Aborts as soon as `isTime`. */
export function cancelWhen(isTime: () => boolean): Cancellation {
  const cancel = new AbortController();
  const reason = new DiskliftError('Cancelled', 'enough');
  let abortedMs = Number.NaN;
  const timer = setInterval(() => {
    if (!isTime()) return;
    clearInterval(timer);
    abortedMs = performance.now();
    cancel.abort(reason);
  }, 10);
  return {
    signal: cancel.signal,
    assertEnded({ failure }) {
      clearInterval(timer);
      assert.equal(failure, reason);
      const tookMs = performance.now() - abortedMs;
      assert.ok(tookMs < 1000, `${tookMs} ms`);
    },
  };
}

/** Call inside `describe`. */
export function useS3Rig(): S3Rig {
  const rig = new S3Rig();
  beforeEach(() => rig.start());
  afterEach(() => rig.stop());
  return rig;
}

/**
 * Upload ids that `sent` has saved: 'intent' where the server had not named the upload yet, undefined where nothing was
 * open any more.
 */
export function savedIds({ saved }: Pick<S3Sent, 'saved'>): (string | undefined)[] {
  return saved.map((state) => state && (readSavedId(state.id).uploadId ?? 'intent'));
}

export function resumeOf({ saved }: Pick<S3Sent, 'saved'>): ResumeState {
  return saved.at(-1) ?? assert.fail('nothing was saved');
}
