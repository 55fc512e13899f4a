import assert from 'node:assert/strict';
import { PART_BYTES } from '../../../helpers/s3-export.ts';
import type { Quirk } from '../../../helpers/s3-fake.ts';
import { afterParts, resumeOf, useS3Rig } from '../../../helpers/s3-rig.ts';

const MIB = 1024 * 1024;

/** Bytes that the buffers of two sockets may hold beside the bytes that were read. */
const MAX_FLOOD_BYTES = 16 * MIB;

describe('s3 target and an answer without an end', () => {
  const rig = useS3Rig();
  const limits = { tries: 1, silentMs: 400, readBackMs: 400 };

  function assertBounded(): void {
    assert.ok(rig.fake.floodBytes() > 0, 'the server has begun');
    assert.ok(rig.fake.floodBytes() < MAX_FLOOD_BYTES, `the server has sent ${rig.fake.floodBytes()} bytes`);
  }

  /** The error of a request that is no listing. */
  const TOO_LONG = /^s3:\/\/images\/vms\/fedora\/disk.qcow2 at 127.0.0.1:\d+: answered \d+ with more than 256 KiB; does the endpoint/;

  for (const operation of ['CreateMultipartUpload', 'UploadPart'] as const)
    for (const does of ['flood', 'flood refusal'] as const)
      it(`fails when ${operation} is answered with 100 MiB, ${does}`, async () => {
        const { failure } = await rig.send({ limits }, { operation, does });
        assert.match(failure?.message ?? '', TOO_LONG);
        assert.deepEqual([failure?.code, failure?.retryable], ['DestinationRejected', false]);
        assertBounded();
      });

  for (const operation of ['CompleteMultipartUpload', 'PutObject'] as const)
    it(`looks for the object when ${operation} is answered with 100 MiB, and finds it`, async () => {
      const options = operation === 'PutObject' ? { partSizeBytes: 8 * MIB } : {};
      rig.assertArrived(await rig.send({ limits, options }, { operation, does: 'flood' }));
      assertBounded();
    });

  it('fails when the list of parts has 100 MiB', async () => {
    const first = await rig.send({ options: { concurrency: 1 } }, afterParts(2));
    const { failure } = await rig.send({ limits, context: { resume: resumeOf(first) } }, { operation: 'ListParts', does: 'flood' });
    assert.match(failure?.message ?? '', /: answered 200 with more than 1 MiB; /);
    assertBounded();
  });

  it('fails when the list of parts has pages without an end', async () => {
    const first = await rig.send({ options: { concurrency: 1 } }, afterParts(2));
    const { failure } = await rig.send({ limits, context: { resume: resumeOf(first) } }, { operation: 'ListParts', does: 'endless pages' });
    assert.match(failure?.message ?? '', /: the list of the upload's parts does not end$/);
    assert.equal(rig.fake.count('ListParts'), 100);
  });

  it('treats a longer object that is read back as another object', async () => {
    await rig.restart({ tags: 'other hash' });
    const { failure } = await rig.send({ limits }, { operation: 'GetObject', does: 'flood' });
    assert.equal(failure?.code, 'ChecksumMismatch', failure?.message);
    assertBounded();
  });

  it('fails when an object is read back a byte at a time', async () => {
    await rig.restart({ tags: 'other hash' });
    const { failure, tookMs } = await rig.send(
      { limits: { ...limits, silentMs: 60_000 } },
      { operation: 'GetObject', does: 'half and drip' },
    );
    assert.match(failure?.message ?? '', /: the answer does not end \(waited 0 s\)$/);
    assert.ok(tookMs < 5000, `${tookMs} ms`);
  });

  it('gives an abort up that is answered with 100 MiB', async () => {
    const { saved } = await rig.send({ options: { concurrency: 1 } }, afterParts(2));
    await assert.rejects(
      rig.abandon(saved.at(-1) ?? assert.fail('nothing was saved'), [{ operation: 'AbortMultipartUpload', does: 'flood refusal' }]),
      {
        code: 'DestinationRejected',
        message: TOO_LONG,
      },
    );
    assertBounded();
  });

  for (const operation of ['CreateMultipartUpload', 'UploadPart'] as const)
    it(`fails within its time limit when ${operation} is answered a byte at a time`, async () => {
      const { failure, tookMs } = await rig.send({ limits }, { operation, does: 'drip' });
      assert.match(failure?.message ?? '', /: no answer \(waited 0 s\)$/);
      assert.deepEqual([failure?.code, failure?.retryable], ['DestinationUnreachable', true]);
      assert.ok(tookMs < 5000, `${tookMs} ms`);
    });

  it('fails when interim answers come without an end', async () => {
    const quirk: Quirk = { operation: 'CreateMultipartUpload', does: 'interim answers' };
    const { failure } = await rig.send({ limits: { tries: 1 }, options: { partSizeBytes: PART_BYTES } }, quirk);
    assert.match(failure?.message ?? '', /^127.0.0.1:\d+: sent more than 10000 interim answers \(1xx\) to one request, and no final one$/);
  });
});
