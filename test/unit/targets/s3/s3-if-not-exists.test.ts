import assert from 'node:assert/strict';
import { KEY, PART_BYTES } from '../../../helpers/s3-export.ts';
import type { Quirk } from '../../../helpers/s3-fake.ts';
import type { Operation } from '../../../helpers/s3-fake-operations.ts';
import { resumeOf, useS3Rig } from '../../../helpers/s3-rig.ts';

const MIB = 1024 * 1024;

const WAYS = [
  ['PutObject', 8 * MIB],
  ['CompleteMultipartUpload', PART_BYTES],
] as const satisfies readonly [Operation, number][];

const EXISTS = /there is an object at the key already.*; ifNotExists keeps it: use another key, such as one with \{timestamp\}$/;

describe('s3 target with ifNotExists', () => {
  const rig = useS3Rig();

  const foreign = () => ({ body: Buffer.from('the only good copy'), etag: '"0"', metadata: {} });
  const options = (partSizeBytes: number) => ({ partSizeBytes, ifNotExists: true });
  const writes = () => rig.fake.requests.filter(({ operation }) => operation !== 'HeadObject').map(({ operation }) => operation);

  for (const [operation, partSizeBytes] of WAYS)
    describe(`by ${operation}`, () => {
      it('sends the image, and has the server check the key', async () => {
        rig.assertArrived(await rig.send({ options: options(partSizeBytes) }));
        const made = rig.fake.requests.find((request) => request.operation === operation);
        assert.equal(made?.headers['if-none-match'], '*');
      });

      it('is refused before anything is sent where an object is there', async () => {
        const object = foreign();
        rig.fake.store.objects.set(KEY, object);
        const { failure, saved } = await rig.send({ options: options(partSizeBytes) });
        assert.deepEqual([failure?.code, failure?.retryable], ['DestinationRejected', false]);
        assert.match(failure?.message ?? '', EXISTS);
        assert.deepEqual([writes(), saved, rig.fake.store.objects.get(KEY)], [[], [], object]);
      });

      it('keeps an object that comes while the image is sent', () => assertKeepsLate(operation, partSizeBytes));

      it('succeeds where the object is its own, after a lost answer and a refusal', async () => {
        rig.assertArrived(await rig.send({ options: options(partSizeBytes) }, { operation, times: 1, does: 'lost' }));
      });

      it('succeeds in the next attempt where the object is its own, and leaves no upload', async () => {
        const lost: Quirk[] = [
          { operation, does: 'hang after' },
          { operation: 'HeadObject', after: operation === 'PutObject' ? 1 : 2, does: { status: 503, code: 'SlowDown' } },
        ];
        const first = await rig.send({ options: options(partSizeBytes), limits: { answerMs: 2000, silentMs: 2000, tries: 1 } }, ...lost);
        assert.equal(first.failure?.retryable, true, first.failure?.message);
        const resume = first.saved.at(-1);
        const context = { hasSentBefore: true, ...(resume === undefined ? {} : { resume }) };
        const second = await rig.send({ options: options(partSizeBytes), context });
        rig.assertArrived(second);
        assert.equal(rig.fake.count(operation), 0);
      });

      it('is sent again after a conflict with another request', async () => {
        const conflict: Quirk = { operation, times: 1, does: { status: 409, code: 'ConditionalRequestConflict' } };
        rig.assertArrived(await rig.send({ options: options(partSizeBytes) }, conflict));
        assert.equal(rig.fake.count(operation), 2);
      });

      it('names the setting to leave out where the server does not know the condition', async () => {
        await rig.restart({ ifNoneMatch: 'refused' });
        const { failure } = await rig.send({ options: options(partSizeBytes) });
        assert.deepEqual([failure?.code, failure?.retryable], ['DestinationRejected', false]);
        assert.match(failure?.message ?? '', /does not know If-None-Match, leave ifNotExists out and use a key that is never used twice$/);
        assert.equal(rig.fake.store.objects.size, 0);
      });

      it('needs a look at the key, because the server may ignore the condition', async () => {
        const denied: Quirk = { operation: 'HeadObject', does: { status: 403, code: 'AccessDenied' } };
        const { failure } = await rig.send({ options: options(partSizeBytes) }, denied);
        assert.deepEqual([failure?.code, writes()], ['CredentialsInvalid', []]);
        assert.match(failure?.message ?? '', /allow s3:GetObject and s3:ListBucket$/);
      });

      it('fails, to be tried again, where the look gets no answer', async () => {
        const { failure } = await rig.send(
          { options: options(partSizeBytes), limits: { silentMs: 50, tries: 1 } },
          { operation: 'HeadObject', does: 'hang' },
        );
        assert.deepEqual([failure?.code, failure?.retryable, writes()], ['DestinationUnreachable', true, []], failure?.message);
      });
    });

  /** The object comes between the first look at the key and the request that makes the image. */
  async function assertKeepsLate(operation: Operation, partSizeBytes: number): Promise<void> {
    const object = foreign();
    const sending = operation === 'PutObject' ? operation : 'UploadPart';
    const comes = setInterval(() => {
      if (rig.fake.count(sending) > 0) rig.fake.store.objects.set(KEY, object);
    }, 1);
    try {
      const again: Quirk = { operation: sending, times: 1, does: { status: 503, code: 'SlowDown' } };
      const { failure } = await rig.send({ options: options(partSizeBytes), limits: { backoffMs: 200 } }, again);
      assert.deepEqual([failure?.code, failure?.retryable], ['DestinationRejected', false], failure?.message);
      assert.match(failure?.message ?? '', EXISTS);
      assert.equal(rig.fake.store.objects.get(KEY), object);
    } finally {
      clearInterval(comes);
    }
  }

  it('keeps an object that comes while parts are sent to a server that ignores the condition', async () => {
    await rig.restart({ ifNoneMatch: 'ignored' });
    await assertKeepsLate('CompleteMultipartUpload', PART_BYTES);
    assert.equal(rig.fake.count('CompleteMultipartUpload'), 0);
  });

  it('drops the upload of an earlier attempt where the image has come to the key by another', async () => {
    const failing: Quirk = { operation: 'UploadPart', after: 2, does: { status: 400, code: 'InvalidArgument' } };
    const first = await rig.send({ options: options(PART_BYTES) }, failing);
    const resume = resumeOf(first);
    const other = await rig.send({ options: { partSizeBytes: PART_BYTES } });
    assert.equal(other.failure, undefined);
    assert.equal(rig.fake.store.uploads.size, 1);
    rig.assertArrived(await rig.send({ options: options(PART_BYTES), context: { resume } }));
  });

  it('drops its own upload where the server refuses to complete it, because the same image came to the key in the meantime', async () => {
    const other = await rig.send({ options: { partSizeBytes: PART_BYTES } });
    assert.equal(other.failure, undefined);
    // Both looks at the key come before the other object.
    const before: Quirk = { operation: 'HeadObject', times: 2, does: { status: 404, code: 'NotFound' } };
    rig.assertArrived(await rig.send({ options: options(PART_BYTES) }, before));
    assert.equal(rig.fake.count('CompleteMultipartUpload'), 1);
  });
});
