/** Uploads whose names nobody has heard: what is saved before they are made, and what is made of it. */

import assert from 'node:assert/strict';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { ResumeState } from '../../../../src/targets/contract.ts';
import { readSavedId } from '../../../../src/targets/s3/held-uploads.ts';
import { KEY, type S3Sent } from '../../../helpers/s3-export.ts';
import type { Quirk } from '../../../helpers/s3-fake.ts';
import { cancelWhen, resumeOf, savedIds, useS3Rig } from '../../../helpers/s3-rig.ts';

const INTENT = /^creating:\d{13}$/;
const HOUR_MS = 3_600_000;

const quick = { limits: { tries: 2, backoffMs: 1 } };
const allLost: Quirk = { operation: 'CreateMultipartUpload', does: 'lost' };

describe('s3 target that may have an orphaned upload', () => {
  const rig = useS3Rig();

  /** An attempt that receives no id, and leaves two uploads. */
  async function loseAll(): Promise<ResumeState> {
    const sent = await rig.send(quick, allLost);
    assert.deepEqual([sent.failure?.code, sent.failure?.retryable], ['DestinationUnreachable', true]);
    assert.match(resumeOf(sent).id, INTENT);
    return resumeOf(sent);
  }

  /** Uploads that the sweep must leave alone, as far as they differ from ours. */
  function openOthers(): string[] {
    const { store } = rig.fake;
    const open = (key: string) => store.open({ key, metadata: {} });
    const [otherKey, older, used] = [open(`${KEY}.old`), open(KEY), open(KEY)];
    (store.uploads.get(older) ?? assert.fail()).madeMs -= 60_000;
    store.uploads.get(used)?.parts.set(1, { body: Buffer.alloc(1), etag: '"x"' });
    return [otherKey, older, used];
  }

  const open = () => [...rig.fake.store.uploads.keys()];

  it('saves that before it asks for one', async () => {
    const saved: [id: string | undefined, requests: number][] = [];
    const sent = await rig.send({
      context: {
        saveResume: async (state) =>
          void saved.push([state && (readSavedId(state.id).uploadId ?? state.id), rig.fake.count('CreateMultipartUpload')]),
      },
    });
    rig.assertArrived(sent);
    assert.match(saved[0]?.[0] ?? '', INTENT);
    assert.deepEqual(
      [saved[0]?.[1], saved.slice(1)],
      [
        0,
        [
          ['upload-1', 1],
          [undefined, 1],
        ],
      ],
    );
  });

  it('requests no upload when the intent cannot be saved', async () => {
    const saveResume = () => Promise.reject(new DiskliftError('ExecutorLost', 'nobody writes'));
    const { failure } = await rig.send({ context: { saveResume } });
    assert.deepEqual([failure?.code, rig.fake.count('CreateMultipartUpload')], ['ExecutorLost', 0]);
  });

  for (const clockAheadMs of [0, HOUR_MS, -HOUR_MS])
    describe(`of a server whose clock is ${clockAheadMs} ms ahead`, () => {
      beforeEach(() => rig.restart({ clockAheadMs }));

      it('drops it in the next attempt, and leaves others alone', async () => {
        const others = openOthers();
        const resume = await loseAll();
        assert.equal(open().length, others.length + 2);
        const { failure, saved } = await rig.send({ context: { resume } });
        assert.equal(failure, undefined);
        assert.ok(rig.fake.store.objects.get(KEY)?.body.equals(rig.expected));
        assert.deepEqual([open(), saved.at(-1)], [others, undefined]);
      });

      it('drops it when it is abandoned, and leaves others alone', async () => {
        const others = openOthers();
        await rig.abandon(await loseAll());
        assert.deepEqual(open(), others);
        await rig.abandon({ ...(await loseAll()) });
        assert.deepEqual(open(), others);
      });
    });

  const failures: readonly [name: string, ...Quirk[]][] = [
    ['because the server does not know the id'],
    ['because every part is refused', { operation: 'UploadPart', does: { status: 503, code: 'SlowDown' } }],
    ['because the network cuts every part', { operation: 'UploadPart', does: 'cut' }],
  ];
  for (const [reason, ...faults] of failures)
    describe(`whose id was damaged on its way, and whose attempt fails ${reason}`, () => {
      async function failDamaged(): Promise<ResumeState> {
        const { failure, saved } = await rig.send(quick, { operation: 'CreateMultipartUpload', does: 'misnamed' }, ...faults);
        assert.equal(failure?.retryable, true, failure?.message);
        assert.deepEqual(savedIds({ saved }), ['intent', 'uploae-4']);
        return resumeOf({ saved });
      }

      it('aborts the upload in the next attempt', async () => {
        const others = openOthers();
        const resume = await failDamaged();
        assert.equal(open().length, others.length + 1);
        const { failure, saved } = await rig.send({ context: { resume } });
        assert.equal(failure, undefined);
        assert.ok(rig.fake.store.objects.get(KEY)?.body.equals(rig.expected));
        assert.deepEqual([open(), saved.at(-1)], [others, undefined]);
      });

      it('aborts the upload when the export is abandoned', async () => {
        const others = openOthers();
        await rig.abandon(await failDamaged());
        assert.deepEqual(open(), others);
      });
    });

  it('finds it although the server is slow to make it', async () => {
    const resume = await loseAll();
    rig.fake.store.uploads.clear();
    const timer = setTimeout(() => rig.fake.store.open({ key: KEY, metadata: {} }), 200);
    await rig.abandon(resume);
    clearTimeout(timer);
    assert.equal(rig.fake.count('AbortMultipartUpload'), 1);
    assert.deepEqual(open(), []);
  });

  it('knows of it when it is cancelled meanwhile', async () => {
    const cancel = cancelWhen(() => rig.fake.store.uploads.size === 1);
    const sent = await rig.send({ context: { signal: cancel.signal } }, { operation: 'CreateMultipartUpload', does: 'hang after' });
    cancel.assertEnded(sent);
    assert.match(resumeOf(sent).id, INTENT);
    await rig.abandon(resumeOf(sent));
    assert.deepEqual(open(), []);
  });

  it('makes another export to the same key begin anew, when that has sent nothing yet', async () => {
    const resume = await loseAll();
    const cancel = cancelWhen(() => rig.fake.count('UploadPart') > 0);
    const sending = { options: { concurrency: 1 }, context: { signal: cancel.signal } };
    const other = await rig.send(sending, { operation: 'UploadPart', does: 'hang' });
    cancel.assertEnded(other);
    await rig.abandon(resume);
    assert.deepEqual(open(), []);
    rig.assertArrived(await rig.send({ context: { resume: resumeOf(other) } }));
  });

  describe('keeps the intent', () => {
    const notNow: Quirk = { operation: 'ListMultipartUploads', does: { status: 503, code: 'SlowDown' } };

    it('as long as the server cannot be asked', async () => {
      const resume = await loseAll();
      const { failure, saved } = await rig.send({ ...quick, context: { resume } }, notNow);
      assert.deepEqual([failure?.retryable, saved, rig.fake.count('CreateMultipartUpload')], [true, [], 0]);
      await assert.rejects(rig.abandon(resume, [notNow]), { code: 'DestinationRejected', retryable: true });
    });

    it('when it has a name at last, and the others could not be looked for', async () => {
      const sent = await rig.send(quick, { ...allLost, times: 1 }, notNow);
      assert.ok(sent.failure?.retryable);
      assert.match(resumeOf(sent).id, INTENT);
      await rig.abandon(resumeOf(sent));
      assert.deepEqual(open(), []);
    });
  });

  it('continues where listing is not allowed', async () => {
    for (const does of [
      { status: 403, code: 'AccessDenied' },
      { status: 501, code: 'NotImplemented' },
    ]) {
      const blind: Quirk = { operation: 'ListMultipartUploads', does };
      const resume = await loseAll();
      const { failure } = await rig.send({ context: { resume } }, blind);
      assert.equal(failure, undefined);
      await rig.abandon(resume, [blind]);
    }
  });

  describe('removes the intent where certainly no upload exists', () => {
    function assertForgotten({ failure, saved }: S3Sent): void {
      assert.ok(failure !== undefined);
      assert.deepEqual([saved.length, saved.at(-1)], [2, undefined]);
    }

    it('because the server has refused', async () => {
      assertForgotten(await rig.send({}, { operation: 'CreateMultipartUpload', does: { status: 403, code: 'AccessDenied' } }));
    });

    it('because nobody listens', async () => {
      await rig.fake[Symbol.asyncDispose]();
      assertForgotten(await rig.send(quick));
    });
  });
});
