import assert from 'node:assert/strict';
import type { ResumeState } from '../../../../src/targets/contract.ts';
import { openImage } from '../../../helpers/image-in-process.ts';
import { KEY } from '../../../helpers/s3-export.ts';
import type { Quirk } from '../../../helpers/s3-fake.ts';
import { afterParts, resumeOf, savedIds, useS3Rig } from '../../../helpers/s3-rig.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';

const MIB = 1024 * 1024;

const refused = (operation: Quirk['operation'], status = 403, code = 'AccessDenied'): Quirk => ({ operation, does: { status, code } });

describe('s3 target at a server that does not list parts', () => {
  const rig = useS3Rig();

  /** Runs an attempt that sends four parts. */
  const sendFour = async (): Promise<ResumeState> => resumeOf(await rig.send({ options: { concurrency: 1 } }, afterParts(4)));

  /** Runs an attempt whose object is stored although the answer was lost. */
  async function complete(): Promise<ResumeState> {
    const sent = await rig.send();
    rig.assertArrived(sent);
    return sent.saved[1] ?? assert.fail('no upload was saved');
  }

  for (const [status, code] of [
    [403, 'AccessDenied'],
    [403, 'Forbidden'],
    [404, 'NotFound'],
    [405, 'MethodNotAllowed'],
    [501, 'NotImplemented'],
  ] as const)
    describe(`but ${status} ${code} to ListParts`, () => {
      const unlisted = refused('ListParts', status, code);

      it('sends all parts again into the same upload', async () => {
        const resume = await sendFour();
        const sent = await rig.send({ context: { resume } }, unlisted);
        rig.assertArrived(sent);
        assert.deepEqual([rig.fake.count('UploadPart'), rig.fake.count('CreateMultipartUpload')], [rig.count(), 0]);
        assert.deepEqual(sent.saved, [undefined]);
      });

      it('finds the object of the completed upload, and sends nothing', async () => {
        const resume = await complete();
        const sent = await rig.send({ context: { resume } }, unlisted);
        rig.assertArrived(sent);
        assert.deepEqual([rig.fake.count('UploadPart'), sent.receipt?.proof, sent.seals], [0, 'etag', 1]);
      });

      it('begins a new upload in the same attempt when the old one is gone and the object cannot be looked up', async () => {
        const resume = await complete();
        rig.fake.store.objects.clear();
        const sent = await rig.send({ context: { resume } }, unlisted, refused('HeadObject'));
        rig.assertArrived(sent);
        assert.deepEqual(savedIds(sent), ['intent', 'upload-2', undefined]);
      });

      it('still aborts an upload', async () => {
        await rig.abandon(await sendFour(), [unlisted]);
        assert.equal(rig.fake.store.uploads.size, 0);
      });
    });

  it('distinguishes wrong credentials from missing rights', async () => {
    const resume = await sendFour();
    for (const code of ['InvalidAccessKeyId', 'SignatureDoesNotMatch']) {
      const { failure, saved } = await rig.send({ context: { resume } }, refused('ListParts', 403, code));
      assert.deepEqual([failure?.code, failure?.retryable, rig.fake.count('UploadPart'), saved], ['CredentialsInvalid', false, 0, []]);
    }
    const { failure } = await rig.send({ context: { resume } }, refused('ListParts', 404, 'NoSuchBucket'));
    assert.deepEqual([failure?.code, rig.fake.count('UploadPart')], ['DestinationRejected', 0]);
  });

  it('keeps the upload when ListParts or HeadObject hangs', async () => {
    const resume = await sendFour();
    const limits = { silentMs: 200, tries: 1 };
    for (const quirks of [[{ operation: 'ListParts', does: 'hang' }], [refused('ListParts'), { operation: 'HeadObject', does: 'hang' }]]) {
      const { failure, saved } = await rig.send({ limits, context: { resume } }, ...(quirks as Quirk[]));
      assert.deepEqual([failure?.code, failure?.retryable, saved], ['DestinationUnreachable', true, []], failure?.message);
    }
    rig.assertArrived(await rig.send({ context: { resume } }));
  });
});

describe('s3 target whose upload is gone at its end, with each error name', () => {
  const rig = useS3Rig();
  const gone = { operation: 'CompleteMultipartUpload', does: { status: 404, code: 'NoSuchKey' } } as const;

  it('finds the object of a request whose answer was lost', async () => {
    const sent = await rig.send({}, { operation: 'CompleteMultipartUpload', times: 1, does: 'lost' }, gone);
    rig.assertArrived(sent);
    assert.equal(sent.receipt?.proof, 'etag');
  });

  it('may try again, and then begins a new upload', async () => {
    const first = await rig.send({}, gone);
    assert.deepEqual([first.failure?.code, first.failure?.retryable], ['DestinationRejected', true]);
    assert.match(first.failure?.message ?? '', /answered 404 NoSuchKey.*: neither the upload nor its object is there$/);
    assert.equal(rig.fake.count('CompleteMultipartUpload'), 1);
    const second = await rig.send({ context: { resume: resumeOf(first) } }, { ...gone, times: 1 });
    assert.equal(second.failure, undefined);
    assert.ok(rig.fake.store.objects.get(KEY)?.body.equals(rig.expected));
    assert.deepEqual(savedIds(second).slice(-2), ['upload-2', undefined]);
    assert.equal(second.progress.at(-1), rig.expected.length);
  });
});

describe('s3 target at a server that replaces nothing', () => {
  const rig = useS3Rig();
  for (const [operation, partSizeBytes] of [
    ['PutObject', 8 * MIB],
    ['CompleteMultipartUpload', undefined],
  ] as const)
    for (const [status, code] of [
      [412, 'PreconditionFailed'],
      [409, 'ObjectAlreadyExists'],
      [403, 'AccessDenied'],
    ] as const) {
      const options = partSizeBytes === undefined ? {} : { partSizeBytes };

      it(`recognises its own object after a lost answer to ${operation} and ${status}`, async () => {
        const sent = await rig.send({ options }, { operation, times: 1, does: 'lost' }, refused(operation, status, code));
        rig.assertArrived(sent);
      });

      it(`does not take another's object for its own after a cut ${operation} and ${status}`, async () => {
        const other = { body: Buffer.alloc(rig.expected.length), etag: '"0"', metadata: {} };
        rig.fake.store.objects.set(KEY, other);
        const { failure } = await rig.send({ options }, { operation, times: 1, does: 'cut' }, refused(operation, status, code));
        assert.equal(failure?.retryable, false, failure?.message);
        assert.equal(rig.fake.store.objects.get(KEY), other);
      });
    }

  it('mentions that the object may come from this export', async () => {
    const { failure } = await rig.send({ options: { partSizeBytes: 8 * MIB } }, refused('PutObject', 412, 'PreconditionFailed'));
    assert.match(failure?.message ?? '', /there is an object at the key already, perhaps from a request of this export/);
  });
});

describe('s3 target at a server that accepts few parts', () => {
  const rig = useS3Rig();

  async function sendLarge(mostParts: number, options = {}, quirks: Quirk[] = []) {
    await rig.restart({ mostParts });
    const parts = [{ offsetBytes: 0, lengthBytes: 40 * MIB, content: 'random' }] as const;
    await using large = await openImage(await createDisk(rig.temp('large.img'), 40 * MIB, parts));
    const sent = await rig.send({ image: large.image, options: { partSizeBytes: undefined, ...options } }, ...quirks);
    return { ...sent, sizeBytes: large.image.sizeBytes };
  }

  it('keeps to maxParts from the start', async () => {
    const { failure, sizeBytes } = await sendLarge(2, { maxParts: 2 });
    assert.equal(failure, undefined);
    assert.deepEqual([rig.fake.count('UploadPart'), rig.fake.count('CreateMultipartUpload')], [2, 1]);
    assert.equal(rig.fake.store.objects.get(KEY)?.body.length, sizeBytes);
  });

  it('reads the limit from the refusal, aborts the upload and begins one with larger parts', async () => {
    const { failure, sizeBytes, progress } = await sendLarge(2);
    assert.equal(failure, undefined);
    assert.equal(rig.fake.store.objects.get(KEY)?.body.length, sizeBytes);
    assert.deepEqual([rig.fake.count('CreateMultipartUpload'), rig.fake.store.uploads.size, progress.at(-1)], [2, 0, sizeBytes]);
  });

  it('keeps the configured part size, and advises which setting to change', async () => {
    const { failure } = await sendLarge(2, { partSizeBytes: 16 * MIB });
    assert.equal(failure?.retryable, false);
    assert.match(
      failure?.message ?? '',
      /set maxParts, or a larger partSize \(Part number must be an integer between 1 and 2, inclusive\)$/,
    );
    assert.equal(rig.fake.count('CreateMultipartUpload'), 1);
  });

  it('reports the refusal when the upload cannot be aborted', async () => {
    const { failure, saved } = await sendLarge(2, {}, [refused('AbortMultipartUpload', 405, 'MethodNotAllowed')]);
    assert.match(failure?.message ?? '', /set maxParts/);
    assert.equal(savedIds({ saved }).at(-1), 'upload-1');
  });
});

describe('s3 target at a bucket that wants a checksum with each request', () => {
  const rig = useS3Rig();

  it('sends one with the object beside the image, too', async () => {
    const options = { checksum: 'CRC32', sha256Object: true } as const;
    const { failure } = await rig.send({ options, context: { seal: async () => ({ sha256: '0'.repeat(64) }) } });
    assert.equal(failure, undefined);
    const puts = rig.fake.requests.filter(({ operation }) => operation === 'UploadPart' || operation === 'PutObject');
    assert.equal(puts.length, rig.count() + 1);
    for (const { headers } of puts) assert.ok(headers['x-amz-checksum-crc32']);
  });
});
