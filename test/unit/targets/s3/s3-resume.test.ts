import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { VirtualImage } from '../../../../src/image/contract.ts';
import { digestImage } from '../../../../src/image/digest.ts';
import { peerCertificate } from '../../../helpers/destinations/peer-certificate.ts';
import { NEVER, openImage } from '../../../helpers/image-in-process.ts';
import { KEY, PART_BYTES } from '../../../helpers/s3-export.ts';
import { afterParts, cancelWhen, resumeOf, savedIds, useS3Rig } from '../../../helpers/s3-rig.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';

const MIB = 1024 * 1024;

describe('s3 target that resumes', () => {
  const rig = useS3Rig();

  describe('resumed', () => {
    it('sends only the parts that are missing, and proves those that are there', async () => {
      const first = await rig.send({ options: { concurrency: 1 } }, afterParts(4));
      assert.equal(first.failure?.code, 'DestinationRejected');
      const second = await rig.send({ context: { resume: resumeOf(first) } });
      rig.assertArrived(second);
      assert.deepEqual([rig.fake.count('UploadPart'), rig.fake.count('CreateMultipartUpload')], [rig.count() - 4, 0]);
      assert.deepEqual([second.saved, second.receipt?.proof], [[undefined], 'etag']);
    });

    it('finds parts on every page, and a gap among them', async () => {
      await rig.restart({ pageParts: 2 });
      const first = await rig.send({ options: { concurrency: 1 } }, afterParts(5));
      const state = resumeOf(first);
      assert.ok(rig.fake.store.uploads.get('upload-1')?.parts.delete(2));
      const second = await rig.send({ context: { resume: state } });
      rig.assertArrived(second);
      assert.deepEqual([rig.fake.count('ListParts'), rig.fake.count('UploadPart')], [2, rig.count() - 4]);
    });

    it('keeps the size of the parts that are there', async () => {
      const first = await rig.send({ options: { concurrency: 1 } }, afterParts(2));
      rig.assertArrived(await rig.send({ context: { resume: resumeOf(first) }, options: { partSizeBytes: 2 * PART_BYTES } }));
      assert.equal(rig.fake.count('UploadPart'), rig.count() - 2);
    });

    it('sends again what the server has other bytes of', async () => {
      const first = await rig.send({ options: { concurrency: 1 } }, afterParts(4));
      const state = resumeOf(first);
      // As when a block device was written to in between: nothing but the bytes tells.
      const parts = rig.fake.store.uploads.get('upload-1')?.parts ?? assert.fail();
      const body = Buffer.alloc(PART_BYTES, 1);
      parts.set(3, { body, etag: rig.fake.store.tagOf(body) });
      rig.assertArrived(await rig.send({ context: { resume: state } }));
      assert.equal(rig.fake.count('UploadPart'), rig.count() - 3);
    });

    it('sends everything again to a server whose tags say nothing', async () => {
      await rig.restart({ tags: 'opaque' });
      const first = await rig.send({ options: { concurrency: 1 } }, afterParts(4));
      rig.assertArrived(await rig.send({ context: { resume: resumeOf(first) } }));
      assert.equal(rig.fake.count('UploadPart'), rig.count());
    });

    it('hashes the whole image although it sends the rest', async () => {
      const first = await rig.send({ options: { concurrency: 1 } }, afterParts(4));
      const { image, sha256 } = digestImage(rig.opened.image);
      const second = await rig.send({ image, context: { resume: resumeOf(first), seal: async () => ({ sha256: await sha256(NEVER) }) } });
      assert.equal(second.receipt?.sha256, createHash('sha256').update(rig.expected).digest('hex'));
    });

    it('begins anew when the upload is gone', async () => {
      const first = await rig.send({ options: { concurrency: 1 } }, afterParts(4));
      rig.fake.store.uploads.clear();
      const second = await rig.send({ context: { resume: resumeOf(first) } });
      rig.assertArrived(second);
      assert.deepEqual([rig.fake.count('UploadPart'), savedIds(second).slice(1)], [rig.count(), ['upload-2', undefined]]);
    });

    it("does not take yesterday's object for one that this upload has become", async () => {
      const first = await rig.send({ options: { concurrency: 1 } }, afterParts(4));
      const metadata = { 'disklift-fingerprint': rig.opened.image.fingerprint };
      rig.fake.store.uploads.clear();
      rig.fake.store.objects.set(KEY, { body: Buffer.alloc(rig.expected.length), etag: `"${'0'.repeat(32)}-${rig.count()}"`, metadata });
      rig.assertArrived(await rig.send({ context: { resume: resumeOf(first) } }));
      assert.equal(rig.fake.count('UploadPart'), rig.count());
    });

    it('finds what was completed before this process began, and sends nothing', async () => {
      const first = await rig.send();
      rig.assertArrived(first);
      const state = first.saved[1];
      const second = await rig.send({ context: { resume: state } });
      rig.assertArrived(second);
      assert.deepEqual([rig.fake.count('UploadPart'), rig.fake.count('CompleteMultipartUpload'), second.seals], [0, 0, 1]);
      assert.deepEqual([second.receipt?.proof, second.progress, second.saved], ['etag', [rig.expected.length], [undefined]]);
    });
  });

  describe('parts that are too large to be held in memory', () => {
    const limits = { maxBufferBytes: PART_BYTES - 1 };

    it('are read while they are sent, one after the other, and hashed', async () => {
      const { image, sha256 } = digestImage(rig.opened.image);
      const sent = await rig.send({ image, limits, context: { seal: async () => ({ sha256: await sha256(NEVER) }) } });
      rig.assertArrived(sent);
      assert.equal(sent.receipt?.sha256, createHash('sha256').update(rig.expected).digest('hex'));
      assert.deepEqual(
        rig.fake.requests.filter(({ operation }) => operation === 'UploadPart').map(({ partNumber }) => partNumber),
        Array.from({ length: rig.count() }, (_, index) => index + 1),
      );
    });

    it('are not held when there is only one either', async () => {
      rig.assertArrived(await rig.send({ limits, options: { partSizeBytes: 8 * MIB } }));
      assert.deepEqual([rig.fake.count('UploadPart'), rig.fake.count('PutObject')], [1, 0]);
    });

    it('are sent again by themselves, and gone on with', async () => {
      rig.assertArrived(
        await rig.send({ limits }, { operation: 'UploadPart', after: 1, times: 2, does: { status: 503, code: 'SlowDown' } }),
      );
      assert.equal(rig.fake.count('UploadPart'), rig.count() + 2);
      const first = await rig.send({ limits }, afterParts(4));
      rig.assertArrived(await rig.send({ limits, context: { resume: resumeOf(first) } }));
      assert.equal(rig.fake.count('UploadPart'), rig.count() - 4);
    });

    for (const does of ['cut', 'early answer'] as const)
      it(`are not read again for the SHA-256 after a try that failed: ${does}`, async () => {
        const parts = [{ offsetBytes: 0, lengthBytes: 24 * MIB, content: 'random' }] as const;
        await using large = await openImage(await createDisk(rig.temp('large.img'), 24 * MIB, parts));
        let readBytes = 0;
        const stream: VirtualImage['stream'] = async function* (range) {
          for await (const chunk of large.image.stream(range)) {
            readBytes += chunk.length;
            yield chunk;
          }
        };
        const { image, sha256 } = digestImage({ ...large.image, fingerprint: 'x', stream });
        let sealBytes = Number.NaN;
        const seal = async () => {
          const before = readBytes;
          const digest = await sha256(NEVER);
          sealBytes = readBytes - before;
          return { sha256: digest };
        };
        // Over http every part is read first for its signature, and that read also hashes it.
        const { ca, certificate: cert, key } = await peerCertificate();
        await rig.restart({ tls: { cert, key } });
        const { receipt, failure } = await rig.send(
          { image, options: { tls: { ca }, partSizeBytes: 12 * MIB }, limits: { maxBufferBytes: MIB }, context: { seal } },
          { operation: 'UploadPart', times: 1, does },
        );
        assert.equal(receipt?.sha256, await digestImage(large.image).sha256(NEVER), failure?.message);
        assert.equal(rig.fake.count('UploadPart'), 4);
        assert.equal(sealBytes, 0);
      });

    it('end with the failure of the source, and without a partial part', async () => {
      const broken = new DiskliftError('SourceReadError', 'at 4711');
      let streams = 0;
      const stream: VirtualImage['stream'] = async function* (range) {
        streams += 1;
        // The first time a part is read for its signature.
        if (streams === 2) {
          yield rig.expected.subarray(0, 1000);
          throw broken;
        }
        yield* rig.opened.image.stream(range);
      };
      const { failure } = await rig.send({ image: { ...rig.opened.image, fingerprint: 'x', stream }, limits });
      assert.equal(failure, broken);
      assert.deepEqual(
        [...rig.fake.store.uploads.values()].map(({ parts }) => parts.size),
        [0],
      );
    });

    it('end within a second when they are cancelled', async () => {
      const cancel = cancelWhen(() => rig.fake.count('UploadPart') > 1);
      const sent = await rig.send({ limits, context: { signal: cancel.signal } }, { operation: 'UploadPart', after: 1, does: 'hang' });
      cancel.assertEnded(sent);
    });
  });
});
