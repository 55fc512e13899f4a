import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type http from 'node:http';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { VirtualImage } from '../../../../src/image/contract.ts';
import { createNetworkAccess } from '../../../../src/network/destination-policy.ts';
import { createHttpTarget } from '../../../../src/targets/http/http-target.ts';
import { startHttpSink } from '../../../helpers/http-sink.ts';
import { type ImageInProcess, NEVER, openImage } from '../../../helpers/image-in-process.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { transferContext } from '../../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;

describe('http target and the digests that a server reports', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let digest: (algorithm: 'sha256' | 'sha512' | 'md5', encoding: 'hex' | 'base64') => string;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('a.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 5 * MIB, content: 'random' }]));
    const bytes = Buffer.alloc(opened.image.sizeBytes);
    await opened.image.read(bytes, 0, NEVER);
    digest = (algorithm, encoding) => createHash(algorithm).update(bytes).digest(encoding);
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  interface Said {
    headers: Record<string, string>;
    text?: string;
    /** Writes the text, and may leave it unfinished. */
    answer?(response: http.ServerResponse, text: string): void;
    /** Whether the SHA-256 of the image is known when the answer comes. */
    isHashed?: boolean;
    signal?: AbortSignal;
  }

  /** @returns the proof or the failure, and how often the image was streamed to its end */
  async function send({ headers, text = '', answer = (response) => void response.end(text), isHashed = true, signal = NEVER }: Said) {
    let reads = 0;
    const image: VirtualImage = {
      ...opened.image,
      stream: (range) => {
        if ((range.end ?? opened.image.sizeBytes) === opened.image.sizeBytes) reads += 1;
        return opened.image.stream(range);
      },
    };
    await using sink = await startHttpSink({
      onRequest: (request, response) => void request.resume().once('end', () => answer(response.writeHead(201, headers), text)),
    });
    const target = createHttpTarget({ url: `${sink.url}/x`, method: 'PUT', access: createNetworkAccess(), clock: systemClock });
    const seal = async () => (isHashed ? { sha256: digest('sha256', 'hex') } : {});
    const result = await target.send(image, transferContext({ seal, signal })).then(
      ({ proof }) => proof,
      (error: unknown) => error as DiskliftError,
    );
    return { result, reads };
  }

  const zeros = (bytes: number) => Buffer.alloc(bytes).toString('base64');

  it('is proven by a correct digest, and not without a digest', async () => {
    const [sha256, md5] = [digest('sha256', 'base64'), digest('md5', 'base64')];
    const rows: [headers: Record<string, string>, proof: string, reads: number][] = [
      [{}, 'status', 1],
      [{ ETag: `"${digest('md5', 'hex')}"` }, 'status', 1],
      [{ 'Repr-Digest': `sha-256=:${sha256}:` }, 'digest', 1],
      [{ 'Repr-Digest': `sha-512=:${zeros(64)}:, sha-256=:${sha256}:` }, 'digest', 1],
      [{ 'Repr-Digest': `sha-512=:${digest('sha512', 'base64')}:` }, 'digest', 2],
      [{ 'Repr-Digest': `sha-384=:${zeros(48)}:` }, 'status', 1],
      [{ Digest: `sha-256=${digest('sha256', 'hex')}` }, 'digest', 1],
      [{ Digest: `SHA-512=${digest('sha512', 'base64')}` }, 'digest', 2],
      [{ Digest: `md5=${md5}` }, 'digest', 2],
      [{ 'Docker-Content-Digest': `sha256:${digest('sha256', 'hex')}` }, 'digest', 1],
      [{ 'x-amz-checksum-sha256': sha256 }, 'digest', 1],
      // A checksum of checksums, as of an object in parts.
      [{ 'x-amz-checksum-sha256': `${zeros(32)}-3` }, 'status', 1],
      [{ 'x-goog-hash': `crc32c=AAAAAA==,md5=${md5}` }, 'digest', 2],
      [{ 'Content-MD5': digest('md5', 'hex') }, 'digest', 2],
      [{ Digest: `SHA-256=${sha256}` }, 'digest', 1],
      [{ Digest: `md5=${zeros(16)},sha-256=${sha256}` }, 'digest', 1],
      [{ 'Content-MD5': md5 }, 'digest', 2],
      [{ 'Content-MD5': md5, 'Repr-Digest': `sha-256=:${sha256}:` }, 'digest', 1],
      [{ 'Content-MD5': 'rubbish' }, 'status', 1],
    ];
    for (const [headers, proof, reads] of rows)
      assert.deepEqual(await send({ headers }), { result: proof, reads }, JSON.stringify(headers));
  });

  it('is computed by another read where the request has no checksum', async () => {
    const headers = { 'Repr-Digest': `sha-256=:${digest('sha256', 'base64')}:` };
    assert.deepEqual(await send({ headers, isHashed: false }), { result: 'digest', reads: 2 });
  });

  for (const headers of [
    { 'Repr-Digest': `sha-256=:${zeros(32)}:` },
    { 'Repr-Digest': `sha-512=:${zeros(64)}:` },
    { Digest: `SHA-256=${zeros(32)}` },
    { Digest: `SHA-256=${'00'.repeat(32)}` },
    { 'Docker-Content-Digest': `sha256:${'00'.repeat(32)}` },
    { 'x-amz-checksum-sha256': zeros(32) },
    { 'x-goog-hash': `md5=${zeros(16)}` },
    { 'Content-MD5': zeros(16) },
  ] as Record<string, string>[])
    for (const isHashed of [true, false])
      it(`fails for ${Object.keys(headers)} of something else, ${isHashed ? 'with' : 'without'} a checksum of its own`, async () => {
        const { result } = await send({ headers, isHashed });
        assert.ok(result instanceof DiskliftError, String(result));
        assert.deepEqual([result.code, result.retryable], ['ChecksumMismatch', true]);
      });

  it('does not mistake the digest of the answer for the digest of the image', async () => {
    const text = 'created';
    const of = (algorithm: string) => createHash(algorithm).update(text).digest('base64');
    for (const headers of [{ 'Repr-Digest': `sha-256=:${of('sha256')}:` }, { 'Content-MD5': of('md5') }] as Record<string, string>[])
      assert.equal((await send({ headers, text })).result, 'status');
    const empty = createHash('md5').digest('base64');
    assert.equal((await send({ headers: { 'Content-MD5': empty } })).result, 'status');
  });

  describe('in an answer that is long or slow', () => {
    const LONG = `{"note":"${'x'.repeat(100_000)}é"}`;
    const md5Of = (text: string) => ({ 'Content-MD5': createHash('md5').update(text).digest('base64') });

    it('compares the digest with the whole text of the answer, however long', async () => {
      assert.equal((await send({ headers: md5Of(LONG), text: LONG })).result, 'status');
      const sha256 = createHash('sha256').update(LONG).digest('base64');
      assert.equal((await send({ headers: { Digest: `SHA-256=${sha256}` }, text: LONG })).result, 'status');
      assert.equal((await send({ headers: { 'Content-MD5': digest('md5', 'base64') }, text: LONG })).result, 'digest');
    });

    it('waits for the end of a text that the digest may belong to', async () => {
      const answer: Said['answer'] = (response, text) => {
        response.write(text.slice(0, 10));
        setTimeout(() => response.end(text.slice(10)), 1500);
      };
      assert.equal((await send({ headers: md5Of(LONG), text: LONG, answer })).result, 'status');
    });

    it('does not accept a truncated text as the whole', async () => {
      const answer: Said['answer'] = (response, text) => {
        response.write(text);
        setTimeout(() => response.destroy(), 100);
      };
      const { result } = await send({ headers: md5Of('another text'), text: 'a text', answer });
      assert.ok(result instanceof DiskliftError, String(result));
      assert.deepEqual([result.code, result.retryable], ['ChecksumMismatch', true]);
      assert.match(result.message, /its answer did not end/);
      // The image's own digest is enough without the whole text.
      assert.equal((await send({ headers: { 'Content-MD5': digest('md5', 'base64') }, text: 'a text', answer })).result, 'digest');
    });
  });
});
