import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError, type ErrorCode } from '../../../../src/common/errors.ts';
import { createNetworkAccess } from '../../../../src/network/destination-policy.ts';
import type { Receipt, TransferContext } from '../../../../src/targets/contract.ts';
import { createHttpTarget, type HttpTargetOptions } from '../../../../src/targets/http/http-target.ts';
import { type HttpSink, type HttpSinkOptions, startHttpSink } from '../../../helpers/http-sink.ts';
import { type ImageInProcess, NEVER, openImage } from '../../../helpers/image-in-process.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { transferContext } from '../../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;
const SECRET = 'hunter2';
const PATH = '/disks/a.qcow2';

describe('http target', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let expected: Buffer;
  let sha256: string;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('a.img'), 16 * MIB, [{ offsetBytes: 0, lengthBytes: 9 * MIB, content: 'random' }]));
    expected = Buffer.alloc(opened.image.sizeBytes);
    await opened.image.read(expected, 0, NEVER);
    sha256 = createHash('sha256').update(expected).digest('hex');
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  interface Sent {
    receipt?: Receipt;
    failure?: DiskliftError;
    sink: HttpSink;
    progress: number[];
    tookMs: number;
  }

  async function send(
    sinkOptions: HttpSinkOptions = {},
    { context = {}, ...options }: Partial<HttpTargetOptions> & { context?: Partial<TransferContext> } = {},
    use?: (sink: HttpSink) => HttpTargetOptions['url'],
  ): Promise<Sent> {
    await using sink = await startHttpSink(sinkOptions);
    const target = createHttpTarget({
      url: use?.(sink) ?? sink.url + PATH,
      method: 'PUT',
      access: createNetworkAccess(),
      clock: systemClock,
      ...options,
    });
    const progress: number[] = [];
    const startMs = performance.now();
    const full = transferContext({ progress: (bytes) => progress.push(bytes), seal: async () => ({ sha256 }), ...context });
    try {
      const receipt = await target.send(opened.image, full);
      return { receipt, sink, progress, tookMs: performance.now() - startMs };
    } catch (error) {
      assert.ok(error instanceof DiskliftError, String(error));
      assert.ok(!error.message.includes(SECRET), error.message);
      assert.ok(!error.message.includes('\n'), error.message);
      return { failure: error, sink, progress, tookMs: performance.now() - startMs };
    }
  }

  const answer =
    (status: number, headers: http.OutgoingHttpHeaders = {}, text = '') =>
    (_request: http.IncomingMessage, response: http.ServerResponse) => {
      response.writeHead(status, headers).end(text);
    };

  /** Takes the body, then answers. */
  const afterBody = (status: number, headers: http.OutgoingHttpHeaders = {}): HttpSinkOptions => ({
    onRequest: (request, response) => {
      request.resume().once('end', () => response.writeHead(status, headers).end());
    },
  });

  it('sends the image with its length, and reports its location', async () => {
    const { receipt, sink, progress } = await send();
    assert.ok(sink.complete.get(PATH)?.equals(expected));
    const [{ method, headers } = assert.fail('no request')] = sink.requests;
    assert.equal(method, 'PUT');
    assert.deepEqual(
      [headers['content-length'], headers['content-type'], headers.expect],
      [`${expected.length}`, 'application/octet-stream', '100-continue'],
    );
    assert.deepEqual(receipt, { location: sink.url + PATH, sizeBytes: expected.length, etag: '"tag"', sha256, proof: 'status' });
    assert.deepEqual(
      progress,
      [...progress].sort((a, b) => a - b),
    );
    assert.equal(progress.at(-1), expected.length);
  });

  it('sends POST, the headers of the caller and If-None-Match', async () => {
    const { sink } = await send({}, { method: 'POST', ifNoneMatch: true, headers: { Authorization: `Bearer ${SECRET}` } });
    const [{ method, headers } = assert.fail('no request')] = sink.requests;
    assert.deepEqual([method, headers.authorization, headers['if-none-match']], ['POST', `Bearer ${SECRET}`, '*']);
  });

  const refusals: [status: number, code: ErrorCode, retryable: boolean][] = [
    [400, 'DestinationRejected', false],
    [401, 'CredentialsInvalid', false],
    [403, 'CredentialsInvalid', false],
    [408, 'DestinationRejected', true],
    [412, 'DestinationRejected', false],
    [413, 'DestinationRejected', false],
    [425, 'DestinationRejected', true],
    [429, 'DestinationRejected', true],
    [500, 'DestinationRejected', true],
    [507, 'DestinationRejected', true],
    [302, 'DestinationRejected', false],
  ];
  for (const [status, code, retryable] of refusals)
    it(`sends no byte when the server answers ${status} beforehand`, async () => {
      const { failure, progress } = await send({ onExpect: answer(status, {}, '<h1>Go\naway</h1>') });
      assert.deepEqual([failure?.code, failure?.retryable, progress], [code, retryable, []]);
      assert.match(failure?.message ?? '', new RegExp(`answered ${status}.*\\(Go away\\)$`));
    });

  it('keeps to Retry-After, in seconds and as a date', async () => {
    const seconds = await send({ onExpect: answer(503, { 'Retry-After': '7' }) });
    assert.equal(seconds.failure?.retryAfterMs, 7000);
    const date = await send({ onExpect: answer(503, { 'Retry-After': new Date(Date.now() + 60_000).toUTCString() }) });
    const waitMs = date.failure?.retryAfterMs ?? 0;
    assert.ok(waitMs > 55_000 && waitMs <= 60_000, `${waitMs}`);
  });

  /** Answers before the body has been read, and leaves the connection open. */
  const early =
    (status: number): NonNullable<HttpSinkOptions['onRequest']> =>
    (request) => {
      request.once('data', () => {
        request.pause();
        request.socket.write(`HTTP/1.1 ${status} Early\r\nContent-Length: 0\r\n\r\n`);
      });
    };

  it('stops sending when the answer comes early', async () => {
    const { failure, progress } = await send({ onRequest: early(413) });
    assert.match(failure?.message ?? '', /answered 413: the image is too large/);
    assert.ok((progress.at(-1) ?? 0) < expected.length);
  });

  it('does not accept success before the whole image was sent', async () => {
    const { failure, progress } = await send({ onRequest: early(200) });
    assert.match(failure?.message ?? '', /answered 200 before it had the whole image/);
    assert.equal(failure?.retryable, true);
    assert.ok((progress.at(-1) ?? 0) < expected.length);
  });

  it('has failed, be the answer heard or not, when the server closes behind an early success', async () => {
    for (let round = 0; round < 10; round += 1) {
      const { failure } = await send({ onRequest: answer(200) });
      assert.ok(failure?.retryable, failure?.message);
    }
  });

  it('does not take a promise for success', async () => {
    const { failure } = await send(afterBody(202));
    assert.match(failure?.message ?? '', /answered 202/);
  });

  it('sends without asking when the server is silent, and when it refuses to be asked', async () => {
    const silent = await send(
      { onExpect: (request, response) => void request.resume().once('end', () => response.writeHead(204).end()) },
      { limits: { continueMs: 50 } },
    );
    assert.equal(silent.receipt?.proof, 'status');
    const refusing = await send({ onExpect: answer(417) });
    assert.deepEqual(
      refusing.sink.requests.map(({ headers }) => headers.expect),
      ['100-continue', undefined],
    );
    assert.ok(refusing.sink.complete.get(PATH)?.equals(expected));
  });

  describe('redirected', () => {
    it('sends everything to the same origin', async () => {
      const { sink } = await send(
        {
          onExpect(request, response) {
            if (request.url === PATH) return void response.writeHead(307, { Location: '/elsewhere' }).end();
            response.writeContinue();
            request.resume().once('end', () => response.writeHead(201).end());
          },
        },
        { headers: { Authorization: SECRET } },
      );
      assert.deepEqual(
        sink.requests.map(({ url, headers }) => [url, headers.authorization]),
        [
          [PATH, SECRET],
          ['/elsewhere', SECRET],
        ],
      );
    });

    it('sends no secret to another origin', async () => {
      await using other = await startHttpSink();
      const { receipt } = await send(
        { onExpect: answer(308, { Location: `${other.url}/there` }) },
        { headers: { Authorization: SECRET, Cookie: SECRET, 'X-Token': SECRET } },
        ({ url }) => `${url.replace('//', `//user:${SECRET}@`)}${PATH}`,
      );
      assert.equal(receipt?.location, `${other.url}/there`);
      assert.ok(other.complete.get('/there')?.equals(expected));
      assert.ok(!JSON.stringify(other.requests).includes(SECRET));
    });

    it('gives up on circles and on nowhere', async () => {
      assert.match((await send({ onExpect: answer(307, { Location: PATH }) })).failure?.message ?? '', /redirects more than 5 times/);
      assert.match((await send({ onExpect: answer(307) })).failure?.message ?? '', /redirects without a valid Location/);
      assert.match(
        (await send({ onExpect: answer(307, { Location: 'file:///etc/shadow' }) })).failure?.message ?? '',
        /redirects to file:/,
      );
    });
  });

  it('leaves no complete body when the seal breaks, and passes its error on', async () => {
    const broken = new DiskliftError('SourceChanged', 'changed');
    const { failure, sink } = await send({}, { context: { seal: () => Promise.reject(broken) } });
    assert.equal(failure, broken);
    await sleep(50);
    assert.deepEqual([...sink.complete.keys()], []);
  });

  it('is unreachable when nobody listens, and when the connection is cut', async () => {
    const nobody = await send({}, {}, () => 'http://127.0.0.1:1/x');
    assert.match(nobody.failure?.message ?? '', /127\.0\.0\.1:1\/x: connection refused/);
    const cut = await send({ onRequest: (request) => void request.once('data', () => request.socket.destroy()) });
    for (const { failure } of [nobody, cut]) assert.deepEqual([failure?.code, failure?.retryable], ['DestinationUnreachable', true]);
  });

  it('does not wait for ever', async () => {
    const stalled = await send({ onRequest: (request) => void request.pause() }, { limits: { idleMs: 200 } });
    assert.match(stalled.failure?.message ?? '', /takes no more bytes/);
    const silent = await send({ onRequest: (request) => void request.resume() }, { limits: { answerMs: 200 } });
    assert.match(silent.failure?.message ?? '', /no answer/);
  });

  for (const [when, sink] of [
    ['connects', { onExpect: () => {} }],
    ['is not read', { onRequest: (request: http.IncomingMessage) => void request.pause() }],
    ['waits for the answer', { onRequest: (request: http.IncomingMessage) => void request.resume() }],
  ] as const)
    it(`ends within a second when it is cancelled while it ${when}`, async () => {
      const cancel = new AbortController();
      setTimeout(() => cancel.abort(new DiskliftError('Cancelled', 'enough')), 150);
      const { failure, tookMs } = await send(sink, { context: { signal: cancel.signal }, limits: { continueMs: 60_000 } });
      assert.equal(failure?.message, 'enough');
      assert.ok(tookMs < 1150, `${tookMs} ms`);
    });

  it('refuses a URL that is not valid, without showing it', () => {
    for (const url of [SECRET, `ftp://${SECRET}/x`])
      assert.throws(
        () => createHttpTarget({ url, method: 'PUT', access: createNetworkAccess(), clock: systemClock }),
        (error) => error instanceof DiskliftError && error.code === 'InvalidRequest' && !error.message.includes(SECRET),
      );
  });
});
