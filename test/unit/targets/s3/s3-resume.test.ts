import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { VirtualImage } from '../../../../src/image/contract.ts';
import { digestImage } from '../../../../src/image/digest.ts';
import type { ResumeState } from '../../../../src/targets/contract.ts';
import { type ImageInProcess, NEVER, openImage } from '../../../helpers/image-in-process.ts';
import { KEY, PART_BYTES, type S3Sending, type S3Sent, s3Target, sendToS3 } from '../../../helpers/s3-export.ts';
import { type Quirk, type S3Fake, type S3FakeOptions, startS3Fake } from '../../../helpers/s3-fake.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Fails an attempt for good when so many parts are there. */
const afterParts = (parts: number): Quirk => ({ operation: 'UploadPart', after: parts, does: { status: 400, code: 'InvalidArgument' } });

describe('s3 target that fails and goes on', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let expected: Buffer;
  let fake: S3Fake;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('a.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 1344 * KIB, content: 'random' }]));
    expected = Buffer.alloc(opened.image.sizeBytes);
    await opened.image.read(expected, 0, NEVER);
    await startFake();
  });
  afterEach(async () => {
    await fake[Symbol.asyncDispose]();
    await opened[Symbol.asyncDispose]();
  });

  async function startFake(options: S3FakeOptions = {}): Promise<void> {
    await fake?.[Symbol.asyncDispose]();
    fake = await startS3Fake({ leastPartBytes: 1, ...options });
  }

  const count = () => Math.ceil(expected.length / PART_BYTES);

  const send = (sending: Omit<Partial<S3Sending>, 'url'> = {}, ...quirks: Quirk[]): Promise<S3Sent> => {
    fake.quirks.splice(0, fake.quirks.length, ...quirks);
    fake.requests.length = 0;
    return sendToS3({ image: opened.image, url: fake.url, ...sending });
  };

  const resumeOf = ({ saved }: S3Sent): ResumeState => saved.at(-1) ?? assert.fail('nothing was saved');

  const abandon = (state: ResumeState, quirks: Quirk[] = []): Promise<void> => {
    fake.quirks.splice(0, fake.quirks.length, ...quirks);
    fake.requests.length = 0;
    return s3Target({ url: fake.url }).abandon(state, NEVER);
  };

  function assertArrived({ failure, receipt, progress }: S3Sent): void {
    assert.equal(failure, undefined);
    assert.ok(receipt !== undefined);
    assert.ok(fake.store.objects.get(KEY)?.body.equals(expected), 'the object is the image');
    assert.equal(fake.store.uploads.size, 0);
    assert.equal(progress.at(-1), expected.length);
  }

  describe('a part that fails', () => {
    for (const does of [{ status: 503, code: 'SlowDown' }, { status: 500, code: 'InternalError' }, 'cut', 'lost'] as const)
      it(`is sent again by itself: ${typeof does === 'string' ? does : does.code}`, async () => {
        const sent = await send({}, { operation: 'UploadPart', after: 1, times: 2, does });
        assertArrived(sent);
        assert.equal(fake.count('UploadPart'), count() + 2);
        assert.equal(fake.count('CreateMultipartUpload'), 1);
      });

    it('is sent again when the server is silent', async () => {
      const sent = await send({ limits: { silentMs: 200 } }, { operation: 'UploadPart', after: 2, times: 1, does: 'hang' });
      assertArrived(sent);
      assert.equal(fake.count('UploadPart'), count() + 1);
    });

    it('ends the attempt in the end, and its upload stays', async () => {
      const { failure, saved } = await send(
        { limits: { tries: 3, backoffMs: 1 } },
        { operation: 'UploadPart', after: 2, does: { status: 500, code: 'InternalError' } },
      );
      assert.deepEqual([failure?.code, failure?.retryable], ['DestinationRejected', true]);
      assert.deepEqual([saved.length, fake.store.uploads.size, fake.store.objects.size], [1, 1, 0]);
    });
  });

  describe('an upload whose name got lost', () => {
    it('is found and dropped; others are left alone', async () => {
      const other = { key: `${KEY}.old`, metadata: {} };
      const [otherKey, older, used] = [
        fake.store.open(other),
        fake.store.open({ ...other, key: KEY }),
        fake.store.open({ ...other, key: KEY }),
      ];
      (fake.store.uploads.get(older) ?? assert.fail()).madeMs -= 60_000;
      fake.store.uploads.get(used)?.parts.set(1, { body: Buffer.alloc(1), etag: '"x"' });
      const { failure, saved } = await send({}, { operation: 'CreateMultipartUpload', times: 2, does: 'lost' });
      assert.equal(failure, undefined);
      assert.equal(saved[0]?.id, 'upload-6');
      assert.deepEqual([...fake.store.uploads.keys()], [otherKey, older, used]);
    });

    it('does not keep the image from being sent where nobody may look', async () => {
      const { failure } = await send(
        {},
        { operation: 'CreateMultipartUpload', times: 1, does: 'lost' },
        { operation: 'ListMultipartUploads', does: { status: 403, code: 'AccessDenied' } },
      );
      assert.equal(failure, undefined);
      assert.ok(fake.store.objects.get(KEY)?.body.equals(expected));
    });
  });

  describe('resumed', () => {
    it('sends only the parts that are missing, and proves those that are there', async () => {
      const first = await send({ options: { concurrency: 1 } }, afterParts(4));
      assert.equal(first.failure?.code, 'DestinationRejected');
      const second = await send({ context: { resume: resumeOf(first) } });
      assertArrived(second);
      assert.deepEqual([fake.count('UploadPart'), fake.count('CreateMultipartUpload')], [count() - 4, 0]);
      assert.deepEqual([second.saved, second.receipt?.proof], [[undefined], 'etag']);
    });

    it('finds parts on every page, and a gap among them', async () => {
      await startFake({ pageParts: 2 });
      const first = await send({ options: { concurrency: 1 } }, afterParts(5));
      const state = resumeOf(first);
      fake.store.uploads.get(state.id)?.parts.delete(2);
      const second = await send({ context: { resume: state } });
      assertArrived(second);
      assert.deepEqual([fake.count('ListParts'), fake.count('UploadPart')], [2, count() - 4]);
    });

    it('keeps the size of the parts that are there', async () => {
      const first = await send({ options: { concurrency: 1 } }, afterParts(2));
      assertArrived(await send({ context: { resume: resumeOf(first) }, options: { partSizeBytes: 2 * PART_BYTES } }));
      assert.equal(fake.count('UploadPart'), count() - 2);
    });

    it('sends again what the server has other bytes of', async () => {
      const first = await send({ options: { concurrency: 1 } }, afterParts(4));
      const state = resumeOf(first);
      // As when a block device was written to in between: nothing but the bytes tells.
      const parts = fake.store.uploads.get(state.id)?.parts;
      const body = Buffer.alloc(PART_BYTES, 1);
      parts?.set(3, { body, etag: fake.store.tagOf(body) });
      assertArrived(await send({ context: { resume: state } }));
      assert.equal(fake.count('UploadPart'), count() - 3);
    });

    it('sends everything again to a server whose tags say nothing', async () => {
      await startFake({ opaqueTags: true });
      const first = await send({ options: { concurrency: 1 } }, afterParts(4));
      assertArrived(await send({ context: { resume: resumeOf(first) } }));
      assert.equal(fake.count('UploadPart'), count());
    });

    it('hashes the whole image although it sends the rest', async () => {
      const first = await send({ options: { concurrency: 1 } }, afterParts(4));
      const { image, sha256 } = digestImage(opened.image);
      const second = await send({ image, context: { resume: resumeOf(first), seal: async () => ({ sha256: await sha256(NEVER) }) } });
      assert.equal(second.receipt?.sha256, createHash('sha256').update(expected).digest('hex'));
    });

    it('begins anew when the upload is gone', async () => {
      const first = await send({ options: { concurrency: 1 } }, afterParts(4));
      fake.store.uploads.clear();
      const second = await send({ context: { resume: resumeOf(first) } });
      assertArrived(second);
      assert.deepEqual([fake.count('UploadPart'), second.saved.map((state) => state?.id)], [count(), ['upload-2', undefined]]);
    });

    it("does not take yesterday's object for one that this upload has become", async () => {
      const first = await send({ options: { concurrency: 1 } }, afterParts(4));
      const metadata = { 'disklift-fingerprint': opened.image.fingerprint };
      fake.store.uploads.clear();
      fake.store.objects.set(KEY, { body: Buffer.alloc(expected.length), etag: `"${'0'.repeat(32)}-${count()}"`, metadata });
      assertArrived(await send({ context: { resume: resumeOf(first) } }));
      assert.equal(fake.count('UploadPart'), count());
    });

    it('finds what was completed before this process began, and sends nothing', async () => {
      const first = await send();
      assertArrived(first);
      const state = first.saved[0];
      const second = await send({ context: { resume: state } });
      assertArrived(second);
      assert.deepEqual([fake.count('UploadPart'), fake.count('CompleteMultipartUpload'), second.seals], [0, 0, 1]);
      assert.deepEqual([second.receipt?.proof, second.progress, second.saved], ['etag', [expected.length], [undefined]]);
    });
  });

  describe('parts that are too large to be held in memory', () => {
    const limits = { largestBufferBytes: PART_BYTES - 1 };

    it('are read while they are sent, one after the other, and hashed', async () => {
      const { image, sha256 } = digestImage(opened.image);
      const sent = await send({ image, limits, context: { seal: async () => ({ sha256: await sha256(NEVER) }) } });
      assertArrived(sent);
      assert.equal(sent.receipt?.sha256, createHash('sha256').update(expected).digest('hex'));
      assert.deepEqual(
        fake.requests.filter(({ operation }) => operation === 'UploadPart').map(({ partNumber }) => partNumber),
        Array.from({ length: count() }, (_, index) => index + 1),
      );
    });

    it('are not held when there is only one either', async () => {
      assertArrived(await send({ limits, options: { partSizeBytes: 8 * MIB } }));
      assert.deepEqual([fake.count('UploadPart'), fake.count('PutObject')], [1, 0]);
    });

    it('are sent again by themselves, and gone on with', async () => {
      assertArrived(await send({ limits }, { operation: 'UploadPart', after: 1, times: 2, does: { status: 503, code: 'SlowDown' } }));
      assert.equal(fake.count('UploadPart'), count() + 2);
      const first = await send({ limits }, afterParts(4));
      assertArrived(await send({ limits, context: { resume: resumeOf(first) } }));
      assert.equal(fake.count('UploadPart'), count() - 4);
    });

    it('end with what the source says, and no part by halves', async () => {
      const broken = new DiskliftError('SourceReadError', 'at 4711');
      let streams = 0;
      const stream: VirtualImage['stream'] = async function* (range) {
        streams += 1;
        // The first time a part is read for its signature.
        if (streams === 2) {
          yield expected.subarray(0, 1000);
          throw broken;
        }
        yield* opened.image.stream(range);
      };
      const { failure, tookMs } = await send({ image: { ...opened.image, fingerprint: 'x', stream }, limits });
      assert.equal(failure, broken);
      assert.ok(tookMs < 2000, `${tookMs} ms`);
      assert.deepEqual(
        [...fake.store.uploads.values()].map(({ parts }) => parts.size),
        [0],
      );
    });

    it('end within a second when they are cancelled', async () => {
      const cancel = new AbortController();
      setTimeout(() => cancel.abort(new DiskliftError('Cancelled', 'enough')), 150);
      const { failure, tookMs } = await send(
        { limits, context: { signal: cancel.signal } },
        { operation: 'UploadPart', after: 1, does: 'hang' },
      );
      assert.equal(failure?.message, 'enough');
      assert.ok(tookMs < 1150, `${tookMs} ms`);
    });
  });

  describe('an answer that does not tell', () => {
    const silent = { limits: { answerMs: 200, silentMs: 200 } };
    for (const [does, sending, completes] of [
      ['lost', {}, 1],
      ['hang after', silent, 1],
      ['hang', silent, 2],
      ['cut', {}, 2],
      ['error in 200', {}, 2],
      [{ status: 503, code: 'SlowDown' }, {}, 2],
    ] as const)
      it(`to the last request: ${typeof does === 'string' ? does : does.code}`, async () => {
        const sent = await send(sending, { operation: 'CompleteMultipartUpload', times: 1, does });
        assertArrived(sent);
        assert.deepEqual(
          [fake.count('CompleteMultipartUpload'), fake.count('UploadPart'), sent.receipt?.proof, sent.seals],
          [completes, count(), 'etag', completes],
        );
      });

    for (const [does, sending, puts] of [
      ['lost', {}, 1],
      ['hang after', silent, 1],
      ['hang', silent, 2],
      ['cut', {}, 2],
      [{ status: 500, code: 'InternalError' }, {}, 2],
    ] as const)
      it(`to the only request: ${typeof does === 'string' ? does : does.code}`, async () => {
        const sent = await send({ ...sending, options: { partSizeBytes: 8 * MIB } }, { operation: 'PutObject', times: 1, does });
        assertArrived(sent);
        assert.deepEqual([fake.count('PutObject'), sent.receipt?.proof, sent.seals], [puts, 'etag', puts]);
      });

    it('is no answer to bytes that the server has not had', async () => {
      await using large = await openImage(
        await createDisk(temp('large.img'), 24 * MIB, [{ offsetBytes: 0, lengthBytes: 24 * MIB, content: 'random' }]),
      );
      const { failure } = await send(
        { image: large.image, options: { partSizeBytes: 32 * MIB }, limits: { tries: 1 } },
        { operation: 'PutObject', does: 'early answer' },
      );
      assert.match(failure?.message ?? '', /answered before it had all bytes/);
      assert.equal(failure?.retryable, true);
    });

    it('is proven by what only this attempt knows where tags say nothing', async () => {
      await startFake({ opaqueTags: true });
      const sent = await send({}, { operation: 'CompleteMultipartUpload', times: 1, does: 'lost' });
      assertArrived(sent);
      assert.equal(sent.receipt?.proof, 'status');
    });

    it('is a failure as long as nothing proves the contrary, and the next attempt finds the object', async () => {
      const nobodyLooks: Quirk = { operation: 'HeadObject', does: { status: 403, code: 'AccessDenied' } };
      const first = await send({}, { operation: 'CompleteMultipartUpload', times: 1, does: 'lost' }, nobodyLooks);
      assert.deepEqual([first.failure?.code, first.failure?.retryable, first.receipt], ['DestinationRejected', true, undefined]);
      const second = await send({ context: { resume: resumeOf(first) } });
      assertArrived(second);
      assert.equal(fake.count('UploadPart'), 0);
    });

    it('asks the seal again before the object may come to be', async () => {
      let asked = 0;
      const seal = async () => {
        asked += 1;
        if (asked > 1) throw new DiskliftError('ExecutorLost', 'somebody else has the export');
        return {};
      };
      const { failure } = await send({ context: { seal } }, { operation: 'CompleteMultipartUpload', times: 1, does: 'cut' });
      assert.equal(failure?.code, 'ExecutorLost');
      assert.deepEqual([fake.count('CompleteMultipartUpload'), fake.store.objects.size], [1, 0]);
    });

    it('is no success when the tag is of other bytes', async () => {
      for (const [operation, partSizeBytes] of [
        ['CompleteMultipartUpload', PART_BYTES],
        ['PutObject', 8 * MIB],
      ] as const) {
        const { failure } = await send({ options: { partSizeBytes } }, { operation, does: 'wrong tag' });
        assert.deepEqual([failure?.code, failure?.retryable], ['ChecksumMismatch', true]);
      }
    });
  });

  describe('whose SHA-256 object fails', () => {
    for (const partSizeBytes of [PART_BYTES, 8 * MIB])
      it(`repeats only that, parts of ${partSizeBytes}`, async () => {
        const sending = (): Omit<Partial<S3Sending>, 'url'> => {
          const { image, sha256 } = digestImage(opened.image);
          return {
            image,
            options: { partSizeBytes, sha256Object: true },
            context: { seal: async () => ({ sha256: await sha256(NEVER) }) },
          };
        };
        const whole = partSizeBytes === 8 * MIB;
        const first = await send(
          { ...sending(), limits: { tries: 2, backoffMs: 1 } },
          { operation: 'PutObject', after: whole ? 1 : 0, does: { status: 500, code: 'InternalError' } },
        );
        assert.deepEqual([first.failure?.retryable, first.receipt], [true, undefined]);
        const base = sending();
        const second = await send({ ...base, context: { ...base.context, resume: first.saved.at(-1) } });
        assertArrived(second);
        assert.deepEqual(
          fake.requests.filter(({ operation }) => ['PutObject', 'UploadPart'].includes(operation)).map(({ key }) => key),
          [`${KEY}.sha256`],
        );
        assert.equal(second.receipt?.proof, 'etag');
      });
  });

  describe('cancelled', () => {
    async function cancelDuring(quirk: Quirk, partSizeBytes = PART_BYTES): Promise<S3Sent> {
      const cancel = new AbortController();
      setTimeout(() => cancel.abort(new DiskliftError('Cancelled', 'enough')), 150);
      const startMs = performance.now();
      const sent = await send({ options: { partSizeBytes }, context: { signal: cancel.signal } }, quirk);
      assert.equal(sent.failure?.message, 'enough');
      assert.ok(performance.now() - startMs < 1150, `${performance.now() - startMs} ms`);
      return sent;
    }

    for (const operation of ['CreateMultipartUpload', 'UploadPart', 'CompleteMultipartUpload', 'PutObject'] as const)
      it(`ends within a second while the server hangs in ${operation}`, async () => {
        const { saved } = await cancelDuring({ operation, does: 'hang' }, operation === 'PutObject' ? 8 * MIB : PART_BYTES);
        assert.equal(fake.store.objects.size, 0);
        if (saved[0] !== undefined) await abandon(saved[0]);
        assert.equal(fake.store.uploads.size, 0);
      });

    it('ends within a second while the source hangs', async () => {
      const cancel = new AbortController();
      setTimeout(() => cancel.abort(new DiskliftError('Cancelled', 'enough')), 100);
      const hangs: VirtualImage = {
        ...opened.image,
        fingerprint: 'x',
        read: (_buffer, _offset, signal) =>
          new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true })),
      };
      const { failure, tookMs } = await send({ image: hangs, context: { signal: cancel.signal } });
      assert.equal(failure?.message, 'enough');
      assert.ok(tookMs < 1100, `${tookMs} ms`);
    });

    it('knows of an upload that was being made', async () => {
      const cancel = new AbortController();
      // Makes the upload, and is slow to say so.
      const slow = fake.store.open.bind(fake.store);
      fake.store.open = (upload) => {
        cancel.abort(new DiskliftError('Cancelled', 'enough'));
        return slow(upload);
      };
      const { failure, saved } = await send({ context: { signal: cancel.signal } });
      assert.equal(failure?.message, 'enough');
      assert.deepEqual([saved[0]?.id, fake.store.uploads.size], ['upload-1', 1]);
      await abandon(saved[0] as ResumeState);
      assert.equal(fake.store.uploads.size, 0);
    });

    it('sends nothing more', async () => {
      await cancelDuring({ operation: 'UploadPart', after: 2, does: 'hang' });
      const requests = fake.requests.length;
      await sleep(100);
      assert.equal(fake.requests.length, requests);
    });
  });

  describe('abandoned', () => {
    const state: ResumeState = { id: 'upload-1', partSizeBytes: PART_BYTES, fingerprint: 'x' };

    it('has dropped what was there, and does not mind when nothing is', async () => {
      await send({ options: { concurrency: 1 } }, afterParts(2));
      await abandon(state);
      assert.equal(fake.store.uploads.size, 0);
      await abandon(state);
      assert.deepEqual(
        fake.requests.map(({ operation }) => operation),
        ['AbortMultipartUpload'],
      );
    });

    it('asks again when parts have survived', async () => {
      await send({ options: { concurrency: 1 } }, afterParts(2));
      const kept = fake.store.uploads.get('upload-1') ?? assert.fail('no upload');
      const drop = fake.store.uploads.delete.bind(fake.store.uploads);
      let aborts = 0;
      fake.store.uploads.delete = (id) => {
        aborts += 1;
        return aborts === 1 ? false : drop(id);
      };
      await abandon(state);
      assert.deepEqual([aborts, fake.store.uploads.size, kept.parts.size], [2, 0, 2]);
    });

    it('says so when it may still be there', async () => {
      await send({ options: { concurrency: 1 } }, afterParts(2));
      await assert.rejects(abandon(state, [{ operation: 'AbortMultipartUpload', does: { status: 403, code: 'AccessDenied' } }]), {
        code: 'CredentialsInvalid',
      });
      fake.store.uploads.delete = () => false;
      await assert.rejects(abandon(state), /the upload is still there after it was aborted/);
    });
  });
});
