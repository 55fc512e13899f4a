import assert from 'node:assert/strict';
import type { Proof } from '../../../../src/targets/contract.ts';
import { KEY, PART_BYTES, type S3Sending, type S3Sent } from '../../../helpers/s3-export.ts';
import type { Quirk, S3FakeOptions } from '../../../helpers/s3-fake.ts';
import { ALTERATIONS, type Alteration } from '../../../helpers/s3-fake-alter.ts';
import type { TagKind } from '../../../helpers/s3-fake-tags.ts';
import { cancelWhen, resumeOf, useS3Rig } from '../../../helpers/s3-rig.ts';
import { until } from '../../../helpers/until.ts';

const MIB = 1024 * 1024;

/** Sends the image by one PutObject. */
const WHOLE = { partSizeBytes: 8 * MIB };

const refused = (operation: Quirk['operation']): Quirk => ({ operation, does: { status: 403, code: 'AccessDenied' } });

describe('s3 target that proves what the server has', () => {
  const rig = useS3Rig();

  function assertMismatch({ failure, receipt }: S3Sent, message: RegExp): void {
    assert.deepEqual([failure?.code, failure?.retryable, receipt], ['ChecksumMismatch', true, undefined], failure?.message);
    assert.match(failure?.message ?? '', message);
  }

  describe('that stores altered bytes', () => {
    for (const does of Object.keys(ALTERATIONS) as Alteration[]) {
      for (const partNumber of [1, 3, 6])
        it(`makes no object of part ${partNumber} that the server ${does}, and sends that part alone again`, async () => {
          const options = { concurrency: 1 };
          const spoiled = await rig.send({ options }, { operation: 'UploadPart', after: partNumber - 1, times: 1, does });
          assertMismatch(spoiled, new RegExp(`the tag of part ${partNumber} is the MD5 of other bytes than those sent`));
          assert.equal(rig.fake.store.objects.size, 0);
          const second = await rig.send({ options, context: { resume: resumeOf(spoiled) } });
          rig.assertArrived(second);
          assert.deepEqual([rig.fake.count('UploadPart'), second.receipt?.proof], [1, 'etag']);
        });

      it(`reads the object back when the server ${does} in every part`, async () => {
        assertMismatch(
          await rig.send({}, { operation: 'UploadPart', does }),
          does === 'shortens' ? /bytes, and \d+ were sent/ : /read back/,
        );
      });

      it(`reads the object back when the server ${does} in the only request`, async () => {
        const sent = await rig.send({ options: WHOLE }, { operation: 'PutObject', does });
        assertMismatch(sent, does === 'shortens' ? /bytes, and \d+ were sent/ : /read back/);
        rig.assertArrived(await rig.send({ options: WHOLE }));
      });

      it(`finds by the requested checksum that the server ${does}, even with opaque tags`, async () => {
        await rig.restart({ tags: 'opaque' });
        const options = { checksum: 'CRC32', concurrency: 1 } as const;
        assertMismatch(await rig.send({ options }, { operation: 'UploadPart', after: 2, times: 1, does }), /the checksum of part 3/);
        assertMismatch(
          await rig.send({ options: { ...options, ...WHOLE } }, { operation: 'PutObject', does }),
          /the checksum of the object/,
        );
      });

      it(`finds by an unrequested checksum that the server ${does}`, async () => {
        await rig.restart({ tags: 'other hash', volunteersCrc32: true });
        assertMismatch(await rig.send({}, { operation: 'UploadPart', after: 2, times: 1, does }), /the checksum of part/);
      });

      it(`finds that the server ${does} when it makes the object of parts that were right`, async () => {
        await rig.restart({ tags: 'of chunks' });
        assertMismatch(await rig.send({}, { operation: 'CompleteMultipartUpload', does }), /read back|bytes, and \d+ were sent/);
      });
    }

    it('compares the length with every kind of tag', async () => {
      assertMismatch(await rig.send({}, { operation: 'CompleteMultipartUpload', does: 'shortens' }), /has \d+ bytes, and \d+ were sent/);
    });

    it('compares the object of a lost answer alike', async () => {
      await rig.restart({ tags: 'other hash' });
      const lost: Quirk = { operation: 'CompleteMultipartUpload', times: 1, does: 'lost' };
      assertMismatch(await rig.send({}, { operation: 'UploadPart', after: 2, times: 1, does: 'flips a bit' }, lost), /read back/);
    });

    it('refuses parts that are too large for memory alike', async () => {
      const limits = { maxBufferBytes: PART_BYTES - 1 };
      const spoiled = await rig.send({ limits }, { operation: 'UploadPart', after: 2, times: 1, does: 'flips a bit' });
      assertMismatch(spoiled, /the tag of part 3/);
      rig.assertArrived(await rig.send({ limits, context: { resume: resumeOf(spoiled) } }));
      assert.equal(rig.fake.count('UploadPart'), 1);
    });
  });

  describe('whose tags are of another kind', () => {
    const kinds: [tags: TagKind, ofParts: Proof, ofWhole: Proof][] = [
      ['upper case', 'etag', 'etag'],
      ['of chunks', 'etag', 'etag'],
      ['constant', 'etag', 'etag'],
      ['of the tags as text', 'etag', 'etag'],
      ['of the whole', 'etag', 'etag'],
      ['opaque', 'readBack', 'readBack'],
      ['other hash', 'readBack', 'readBack'],
      // The tag of the object is made of the parts' MD5s, so no part has to be read.
      ['other hash of parts', 'etag', 'readBack'],
    ];
    for (const [tags, ofParts, ofWhole] of kinds)
      it(`succeeds at the first attempt, and names what it compared: ${tags}`, async () => {
        await rig.restart({ tags });
        const sent = await rig.send();
        rig.assertArrived(sent);
        assert.deepEqual([sent.receipt?.proof, rig.fake.count('UploadPart')], [ofParts, rig.count()]);
        const whole = await rig.send({ options: WHOLE });
        rig.assertArrived(whole);
        assert.deepEqual([whole.receipt?.proof, rig.fake.count('PutObject')], [ofWhole, 1]);
      });

    it('resumes with parts whose tags are MD5s in capital letters', async () => {
      await rig.restart({ tags: 'upper case' });
      const first = await rig.send(
        { options: { concurrency: 1 } },
        { operation: 'UploadPart', after: 4, does: { status: 400, code: 'X' } },
      );
      rig.assertArrived(await rig.send({ context: { resume: resumeOf(first) } }));
      assert.equal(rig.fake.count('UploadPart'), rig.count() - 4);
    });

    for (const tags of ['of chunks', 'other hash'] as const)
      it(`finds what an earlier process has completed, and sends nothing: ${tags}`, async () => {
        await rig.restart({ tags });
        const first = await rig.send();
        const second = await rig.send({ context: { resume: first.saved[1] } });
        rig.assertArrived(second);
        assert.deepEqual([rig.fake.count('UploadPart'), second.receipt?.proof], [0, 'readBack']);
      });

    it('rejects an object of another state of the disk with the same fingerprint', async () => {
      await rig.restart({ tags: 'other hash' });
      const first = await rig.send();
      const object = rig.fake.store.objects.get(KEY) ?? assert.fail('no object');
      object.body = ALTERATIONS['flips a bit'](object.body);
      const second = await rig.send({ context: { resume: first.saved[1] } });
      rig.assertArrived(second);
      assert.equal(rig.fake.count('UploadPart'), rig.count());
    });
  });

  describe('as far as it is allowed to look', () => {
    interface Look {
      server: S3FakeOptions;
      options?: S3Sending['options'];
      quirks?: Quirk[];
      proof: Proof;
    }
    const looks: Record<string, Look> = {
      'with keys that may only write, by the tags': { server: {}, quirks: [refused('HeadObject'), refused('GetObject')], proof: 'etag' },
      'by nothing but the length': { server: { tags: 'other hash' }, quirks: [refused('GetObject')], proof: 'length' },
      'not at all': { server: { tags: 'opaque' }, quirks: [refused('HeadObject'), refused('GetObject')], proof: 'status' },
      'by the checksum that was asked for': { server: { tags: 'other hash' }, options: { checksum: 'CRC32' }, proof: 'checksum' },
      'by a checksum that nobody asked for': { server: { tags: 'opaque', volunteersCrc32: true }, proof: 'checksum' },
      'by reading, where keys of the customer are said to encrypt': {
        server: { tags: 'other hash', encryption: { 'x-amz-server-side-encryption': 'aws:kms' } },
        proof: 'readBack',
      },
      'where a server does not know GET': {
        server: { tags: 'opaque' },
        quirks: [{ operation: 'GetObject', does: { status: 501, code: 'NotImplemented' } }],
        proof: 'length',
      },
    };
    for (const [name, { server, options, quirks = [], proof }] of Object.entries(looks))
      it(name, async () => {
        await rig.restart(server);
        for (const partSizeBytes of [PART_BYTES, WHOLE.partSizeBytes]) {
          const sent = await rig.send({ options: { ...options, partSizeBytes } }, ...quirks);
          rig.assertArrived(sent);
          assert.equal(sent.receipt?.proof, proof);
        }
      });

    it('where a server answers with more than the requested range', async () => {
      await rig.restart({ tags: 'opaque', ignoresRanges: true });
      const sent = await rig.send();
      rig.assertArrived(sent);
      assert.equal(sent.receipt?.proof, 'length');
    });

    it('and ignores an object that another export has stored in the meantime', async () => {
      const sending = rig.send(
        {},
        { operation: 'HeadObject', times: 1, does: { status: 503, code: 'SlowDown', headers: { 'Retry-After': '1' } } },
      );
      await until('the object is looked at', () => rig.fake.count('HeadObject') > 0);
      const metadata = { 'disklift-fingerprint': 'of another image' };
      rig.fake.store.objects.set(KEY, { body: Buffer.alloc(5), etag: '"other"', metadata });
      const { receipt, failure } = await sending;
      assert.equal(receipt?.proof, 'etag', failure?.message);
    });
  });

  describe('when the server', () => {
    const limits = { tries: 2, backoffMs: 1, silentMs: 600 };
    const away: Quirk['does'][] = ['hang', 'cut', { status: 503, code: 'SlowDown' }];
    for (const operation of ['HeadObject', 'GetObject'] as const) {
      const own = operation === 'GetObject' ? (['half', 'half and cut'] as const) : [];
      for (const does of [...away, ...own]) {
        const name = `${operation}: ${typeof does === 'string' ? does : does.code}`;
        it(`fails to answer once, it is asked again, ${name}`, async () => {
          await rig.restart({ tags: 'other hash' });
          const sent = await rig.send({ limits }, { operation, times: 1, does });
          rig.assertArrived(sent);
          assert.deepEqual([sent.receipt?.proof, rig.fake.count('UploadPart')], ['readBack', rig.count()]);
        });

        it(`does not answer any more, the attempt fails and the next one sends nothing, ${name}`, async () => {
          await rig.restart({ tags: 'other hash' });
          const first = await rig.send({ limits }, { operation, does });
          assert.deepEqual([first.failure?.retryable, first.receipt], [true, undefined], first.failure?.message);
          const second = await rig.send({ limits, context: { resume: resumeOf(first) } });
          rig.assertArrived(second);
          assert.deepEqual([second.receipt?.proof, rig.fake.count('UploadPart')], ['readBack', 0]);
        });
      }

      it(`hangs, a cancelled export ends within a second, ${operation}`, async () => {
        await rig.restart({ tags: 'other hash' });
        const cancel = cancelWhen(() => rig.fake.count(operation) > 0);
        const does = operation === 'GetObject' ? 'half' : 'hang';
        cancel.assertEnded(await rig.send({ context: { signal: cancel.signal } }, { operation, does }));
      });
    }

    it('shows the object a little later, it is asked again', async () => {
      const sent = await rig.send({}, { operation: 'HeadObject', times: 2, does: { status: 404, code: 'NotFound' } });
      rig.assertArrived(sent);
      assert.equal(sent.receipt?.proof, 'etag');
    });

    it('does not have the object that it has confirmed, the attempt fails', async () => {
      for (const partSizeBytes of [PART_BYTES, WHOLE.partSizeBytes]) {
        const never: Quirk = { operation: 'HeadObject', does: { status: 404, code: 'NotFound' } };
        const { failure } = await rig.send({ limits, options: { partSizeBytes } }, never);
        assert.deepEqual([failure?.code, failure?.retryable], ['DestinationRejected', true]);
        assert.match(failure?.message ?? '', /has confirmed the object, and does not have it/);
      }
    });
  });
});
