import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Clock, systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { digestImage } from '../../../../src/image/digest.ts';
import { NEVER, openImage } from '../../../helpers/image-in-process.ts';
import { KEY, PART_BYTES, type S3Sending } from '../../../helpers/s3-export.ts';
import { LATE_MS, type Quirk } from '../../../helpers/s3-fake.ts';
import { resumeOf, savedIds, useS3Rig } from '../../../helpers/s3-rig.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';

const MIB = 1024 * 1024;

describe('s3 target that tries again', () => {
  const rig = useS3Rig();

  describe('a part that fails', () => {
    for (const does of [{ status: 503, code: 'SlowDown' }, { status: 500, code: 'InternalError' }, 'cut', 'lost'] as const)
      it(`is sent again by itself: ${typeof does === 'string' ? does : does.code}`, async () => {
        const sent = await rig.send({}, { operation: 'UploadPart', after: 1, times: 2, does });
        rig.assertArrived(sent);
        assert.equal(rig.fake.count('UploadPart'), rig.count() + 2);
        assert.equal(rig.fake.count('CreateMultipartUpload'), 1);
      });

    it('is sent again when the server explains itself by more than a text', async () => {
      const does = { status: 400, code: 'BadDigest', message: '<Part>1</Part><Part>2</Part>' };
      rig.assertArrived(await rig.send({}, { operation: 'UploadPart', after: 1, times: 1, does }));
      assert.equal(rig.fake.count('UploadPart'), rig.count() + 1);
    });

    for (const code of ['SignatureDoesNotMatch', 'InvalidAccessKeyId']) {
      const does = { status: 403, code };

      it(`is sent again once, because a bit may have been changed on its way: ${code}`, async () => {
        rig.assertArrived(await rig.send({}, { operation: 'UploadPart', after: 1, times: 1, does }));
        assert.equal(rig.fake.count('UploadPart'), rig.count() + 1);
      });

      it(`fails for good the second time: ${code}`, async () => {
        const { failure } = await rig.send({ options: { concurrency: 1 } }, { operation: 'UploadPart', after: 1, does });
        assert.deepEqual([failure?.code, failure?.retryable, rig.fake.count('UploadPart')], ['CredentialsInvalid', false, 3]);
      });
    }

    it('is sent again when the server is silent', async () => {
      const sent = await rig.send({ limits: { silentMs: 1000 } }, { operation: 'UploadPart', after: 2, times: 1, does: 'hang' });
      rig.assertArrived(sent);
      assert.equal(rig.fake.count('UploadPart'), rig.count() + 1);
    });

    /** Waits before another try until another part has arrived, as long as there are others. */
    function sendAmongOthers(quirk: Pick<Quirk, 'times'>) {
      let arrivedParts = 0;
      let wake = () => {};
      const clock: Clock = {
        ...systemClock,
        delay(delayMs, signal) {
          if (delayMs > 0 || arrivedParts >= rig.count() - 1) return systemClock.delay(delayMs, signal);
          return new Promise<void>((resolve) => {
            wake = resolve;
          });
        },
      };
      const progress = () => {
        arrivedParts += 1;
        wake();
      };
      const sending = { options: { concurrency: 2, clock, random: () => 0 }, limits: { tries: 2 }, context: { progress } };
      return rig.send(sending, { operation: 'UploadPart', part: 2, does: 'cut', ...quirk });
    }

    it('is sent again more often as long as other parts arrive', async () => {
      rig.assertArrived(await sendAmongOthers({ times: 4 }));
      assert.equal(rig.fake.count('UploadPart'), rig.count() + 4);
    });

    it('ends the attempt when no other part arrives any more', async () => {
      const { failure } = await sendAmongOthers({});
      assert.deepEqual([failure?.code, failure?.retryable], ['DestinationUnreachable', true]);
      assert.equal(rig.fake.store.uploads.get('upload-1')?.parts.size, rig.count() - 1);
      assert.ok(rig.fake.count('UploadPart') > rig.count() - 1 + 2, 'it had more tries than those in a row');
    });

    it('ends the attempt in the end, and its upload stays', async () => {
      const { failure, saved } = await rig.send(
        { limits: { tries: 3, backoffMs: 1 } },
        { operation: 'UploadPart', after: 2, does: { status: 500, code: 'InternalError' } },
      );
      assert.deepEqual([failure?.code, failure?.retryable], ['DestinationRejected', true]);
      assert.deepEqual([savedIds({ saved }).at(-1), rig.fake.store.uploads.size, rig.fake.store.objects.size], ['upload-1', 1, 0]);
    });
  });

  describe('a part that arrives after its request was abandoned', () => {
    const late: Quirk = { operation: 'UploadPart', after: 2, times: 1, does: 'late' };

    async function assertNothingOpen(): Promise<void> {
      await sleep(2 * LATE_MS);
      assert.equal(rig.fake.store.uploads.size, 0);
    }

    it('does not open the upload again behind its end', async () => {
      rig.assertArrived(await rig.send({}, { ...late }));
      await assertNothingOpen();
    });

    for (const partSizeBytes of [PART_BYTES, 2 * PART_BYTES])
      it(`does not open the upload of an earlier attempt again, parts of ${partSizeBytes}`, async () => {
        const options = { partSizeBytes, concurrency: 1 };
        // The larger ones are read while they are sent.
        const limits = { tries: 1, maxBufferBytes: PART_BYTES };
        const first = await rig.send({ options, limits }, { ...late, after: 1 });
        assert.equal(first.failure?.retryable, true);
        rig.assertArrived(await rig.send({ options, limits, context: { resume: resumeOf(first) } }));
        await assertNothingOpen();
      });

    it('is dropped with an upload that is abandoned', async () => {
      const { failure, saved } = await rig.send({ options: { concurrency: 1 }, limits: { tries: 1 } }, { ...late });
      assert.equal(failure?.retryable, true);
      await rig.abandon(saved.at(-1) ?? assert.fail('nothing was saved'));
      await assertNothingOpen();
    });
  });

  describe('an upload whose id got lost', () => {
    it('is found and dropped; others are left alone', async () => {
      const other = { key: `${KEY}.old`, metadata: {} };
      const [otherKey, older, used] = [
        rig.fake.store.open(other),
        rig.fake.store.open({ ...other, key: KEY }),
        rig.fake.store.open({ ...other, key: KEY }),
      ];
      (rig.fake.store.uploads.get(older) ?? assert.fail()).madeMs -= 60_000;
      rig.fake.store.uploads.get(used)?.parts.set(1, { body: Buffer.alloc(1), etag: '"x"' });
      const { failure, saved } = await rig.send({}, { operation: 'CreateMultipartUpload', times: 2, does: 'lost' });
      assert.equal(failure, undefined);
      assert.equal(savedIds({ saved })[1], 'upload-6');
      assert.deepEqual([...rig.fake.store.uploads.keys()], [otherKey, older, used]);
    });

    it('sends the image where listing is not allowed', async () => {
      const { failure } = await rig.send(
        {},
        { operation: 'CreateMultipartUpload', times: 1, does: 'lost' },
        { operation: 'ListMultipartUploads', does: { status: 403, code: 'AccessDenied' } },
      );
      assert.equal(failure, undefined);
      assert.ok(rig.fake.store.objects.get(KEY)?.body.equals(rig.expected));
    });
  });

  describe('an answer that does not tell', () => {
    const silent = { limits: { answerMs: 400, silentMs: 400 } };
    for (const [does, sending, completes] of [
      ['lost', {}, 1],
      ['hang after', silent, 1],
      ['hang', silent, 2],
      ['cut', {}, 2],
      ['error in 200', {}, 2],
      [{ status: 503, code: 'SlowDown' }, {}, 2],
    ] as const)
      it(`to the last request: ${typeof does === 'string' ? does : does.code}`, async () => {
        const sent = await rig.send(sending, { operation: 'CompleteMultipartUpload', times: 1, does });
        rig.assertArrived(sent);
        assert.deepEqual(
          [rig.fake.count('CompleteMultipartUpload'), rig.fake.count('UploadPart'), sent.receipt?.proof, sent.seals],
          [completes, rig.count(), 'etag', completes],
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
        const sent = await rig.send({ ...sending, options: { partSizeBytes: 8 * MIB } }, { operation: 'PutObject', times: 1, does });
        rig.assertArrived(sent);
        assert.deepEqual([rig.fake.count('PutObject'), sent.receipt?.proof, sent.seals], [puts, 'etag', puts]);
      });

    it('is no answer to bytes that the server has not had', async () => {
      await using large = await openImage(
        await createDisk(rig.temp('large.img'), 24 * MIB, [{ offsetBytes: 0, lengthBytes: 24 * MIB, content: 'random' }]),
      );
      const { failure } = await rig.send(
        { image: large.image, options: { partSizeBytes: 32 * MIB }, limits: { tries: 1 } },
        { operation: 'PutObject', does: 'early answer' },
      );
      assert.match(failure?.message ?? '', /answered before it had all bytes/);
      assert.equal(failure?.retryable, true);
    });

    it('is proven by what only this attempt knows where tags say nothing', async () => {
      await rig.restart({ tags: 'opaque' });
      const sent = await rig.send({}, { operation: 'CompleteMultipartUpload', times: 1, does: 'lost' });
      rig.assertArrived(sent);
      assert.equal(sent.receipt?.proof, 'readBack');
    });

    it('is a failure as long as nothing proves the contrary, and the next attempt finds the object', async () => {
      const nobodyLooks: Quirk = { operation: 'HeadObject', does: { status: 403, code: 'AccessDenied' } };
      const first = await rig.send({}, { operation: 'CompleteMultipartUpload', times: 1, does: 'lost' }, nobodyLooks);
      assert.deepEqual([first.failure?.code, first.failure?.retryable, first.receipt], ['DestinationRejected', true, undefined]);
      const second = await rig.send({ context: { resume: resumeOf(first) } });
      rig.assertArrived(second);
      assert.equal(rig.fake.count('UploadPart'), 0);
    });

    it('asks the seal again before the object may come to be', async () => {
      let asked = 0;
      const seal = async () => {
        asked += 1;
        if (asked > 1) throw new DiskliftError('ExecutorLost', 'somebody else has the export');
        return {};
      };
      const { failure } = await rig.send({ context: { seal } }, { operation: 'CompleteMultipartUpload', times: 1, does: 'cut' });
      assert.equal(failure?.code, 'ExecutorLost');
      assert.deepEqual([rig.fake.count('CompleteMultipartUpload'), rig.fake.store.objects.size], [1, 0]);
    });
  });

  it('is no success when a PutObject whose connection was lost comes late and stores other bytes', async () => {
    const options = { partSizeBytes: 8 * MIB };
    const limits = { backoffMs: 1 };
    const late: Quirk = { operation: 'PutObject', times: 1, does: 'late and altered' };
    const { failure } = await rig.send({ options, limits }, late);
    assert.deepEqual([failure?.code, failure?.retryable], ['ChecksumMismatch', true], failure?.message);
    rig.assertArrived(await rig.send({ options, context: { hasSentBefore: true } }));
  });

  describe('whose SHA-256 object fails', () => {
    for (const partSizeBytes of [PART_BYTES, 8 * MIB])
      it(`repeats only that, parts of ${partSizeBytes}`, async () => {
        const sending = (): Omit<Partial<S3Sending>, 'url'> => {
          const { image, sha256 } = digestImage(rig.opened.image);
          return {
            image,
            options: { partSizeBytes, sha256Object: true },
            context: { seal: async () => ({ sha256: await sha256(NEVER) }) },
          };
        };
        const whole = partSizeBytes === 8 * MIB;
        const first = await rig.send(
          { ...sending(), limits: { tries: 2, backoffMs: 1 } },
          { operation: 'PutObject', after: whole ? 1 : 0, does: { status: 500, code: 'InternalError' } },
        );
        assert.deepEqual([first.failure?.retryable, first.receipt], [true, undefined]);
        const base = sending();
        const second = await rig.send({ ...base, context: { ...base.context, resume: first.saved.at(-1) } });
        rig.assertArrived(second);
        assert.deepEqual(
          rig.fake.requests.filter(({ operation }) => ['PutObject', 'UploadPart'].includes(operation)).map(({ key }) => key),
          [`${KEY}.sha256`],
        );
        assert.equal(second.receipt?.proof, 'etag');
      });
  });
});
