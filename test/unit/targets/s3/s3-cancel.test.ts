import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { VirtualImage } from '../../../../src/image/contract.ts';
import type { ResumeState } from '../../../../src/targets/contract.ts';
import { PART_BYTES, type S3Sent } from '../../../helpers/s3-export.ts';
import type { Quirk } from '../../../helpers/s3-fake.ts';
import { afterParts, cancelWhen, savedIds, useS3Rig } from '../../../helpers/s3-rig.ts';

const MIB = 1024 * 1024;

describe('s3 target that is stopped', () => {
  const rig = useS3Rig();

  describe('cancelled', () => {
    async function cancelDuring(quirk: Quirk, partSizeBytes = PART_BYTES): Promise<S3Sent> {
      const cancel = cancelWhen(() => rig.fake.count(quirk.operation) > (quirk.after ?? 0));
      const sent = await rig.send({ options: { partSizeBytes }, context: { signal: cancel.signal } }, quirk);
      cancel.assertEnded(sent);
      return sent;
    }

    for (const operation of ['CreateMultipartUpload', 'UploadPart', 'CompleteMultipartUpload', 'PutObject'] as const)
      it(`ends within a second while the server hangs in ${operation}`, async () => {
        const { saved } = await cancelDuring({ operation, does: 'hang' }, operation === 'PutObject' ? 8 * MIB : PART_BYTES);
        assert.equal(rig.fake.store.objects.size, 0);
        const state = saved.at(-1);
        if (state !== undefined) await rig.abandon(state);
        assert.equal(rig.fake.store.uploads.size, 0);
      });

    it('ends within a second while the source hangs', async () => {
      let isHanging = false;
      const cancel = cancelWhen(() => isHanging);
      const hangs: VirtualImage = {
        ...rig.opened.image,
        fingerprint: 'x',
        read: (_buffer, _offset, signal) => {
          isHanging = true;
          return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
        },
      };
      cancel.assertEnded(await rig.send({ image: hangs, context: { signal: cancel.signal } }));
    });

    it('knows of an upload that was being made', async () => {
      const cancel = new AbortController();
      // Makes the upload, and is slow to say so.
      const slow = rig.fake.store.open.bind(rig.fake.store);
      rig.fake.store.open = (upload) => {
        cancel.abort(new DiskliftError('Cancelled', 'enough'));
        return slow(upload);
      };
      const { failure, saved } = await rig.send({ context: { signal: cancel.signal } });
      assert.equal(failure?.message, 'enough');
      assert.deepEqual([savedIds({ saved })[1], rig.fake.store.uploads.size], ['upload-1', 1]);
      await rig.abandon(saved[1] as ResumeState);
      assert.equal(rig.fake.store.uploads.size, 0);
    });

    it('sends nothing more', async () => {
      // Two parts arrive, and all three that may be on their way at once hang.
      const cancel = cancelWhen(() => rig.fake.count('UploadPart') === 5);
      cancel.assertEnded(
        await rig.send(
          { options: { concurrency: 3 }, context: { signal: cancel.signal } },
          { operation: 'UploadPart', after: 2, does: 'hang' },
        ),
      );
      const requests = rig.fake.requests.length;
      await sleep(100);
      assert.equal(rig.fake.requests.length, requests);
    });
  });

  describe('abandoned', () => {
    const state: ResumeState = { id: 'upload-1', partSizeBytes: PART_BYTES, fingerprint: 'x' };

    it('has dropped what was there, and does not mind when nothing is', async () => {
      await rig.send({ options: { concurrency: 1 } }, afterParts(2));
      await rig.abandon(state);
      assert.equal(rig.fake.store.uploads.size, 0);
      await rig.abandon(state);
      assert.deepEqual(
        rig.fake.requests.map(({ operation }) => operation),
        ['AbortMultipartUpload'],
      );
    });

    it('asks again when parts have survived', async () => {
      await rig.send({ options: { concurrency: 1 } }, afterParts(2));
      const kept = rig.fake.store.uploads.get('upload-1') ?? assert.fail('no upload');
      const drop = rig.fake.store.uploads.delete.bind(rig.fake.store.uploads);
      let aborts = 0;
      rig.fake.store.uploads.delete = (id) => {
        aborts += 1;
        return aborts === 1 ? false : drop(id);
      };
      await rig.abandon(state);
      assert.deepEqual([aborts, rig.fake.store.uploads.size, kept.parts.size], [2, 0, 2]);
    });

    it('fails when the upload may still be there', async () => {
      await rig.send({ options: { concurrency: 1 } }, afterParts(2));
      await assert.rejects(rig.abandon(state, [{ operation: 'AbortMultipartUpload', does: { status: 403, code: 'AccessDenied' } }]), {
        code: 'CredentialsInvalid',
      });
      rig.fake.store.uploads.delete = () => false;
      await assert.rejects(rig.abandon(state), /the upload is still there after it was aborted/);
    });
  });
});
