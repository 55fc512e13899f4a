import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type http from 'node:http';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { createNetworkAccess } from '../../../../src/network/destination-policy.ts';
import type { TransferContext } from '../../../../src/targets/contract.ts';
import { createHttpTarget, type HttpTargetOptions } from '../../../../src/targets/http/http-target.ts';
import { drip, flood, floodInterim } from '../../../helpers/endless-answer.ts';
import { type HttpSink, startHttpSink } from '../../../helpers/http-sink.ts';
import { type ImageInProcess, NEVER, openImage } from '../../../helpers/image-in-process.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { transferContext } from '../../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;

type Answering = (response: http.ServerResponse, stored: Buffer | undefined) => unknown;

/** The server's reaction to each method; a method that is left out works. */
interface Server {
  put?: Answering;
  head?: Answering;
  get?: Answering;
  /** The file that is stored before. */
  stored?: Buffer;
  /** Whether the server stores a PUT. */
  keeps?: boolean;
}

describe('http target and an answer that was lost', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let expected: Buffer;
  let sha256: string;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('a.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 5 * MIB, content: 'random' }]));
    expected = Buffer.alloc(opened.image.sizeBytes);
    await opened.image.read(expected, 0, NEVER);
    sha256 = createHash('sha256').update(expected).digest('hex');
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  const loseAnswer: Answering = (response) => void response.destroy();
  const answer =
    (status: number, headers: http.OutgoingHttpHeaders = {}): Answering =>
    (response) =>
      void response.writeHead(status, headers).end();
  const hang: Answering = () => {};

  type Options = Partial<HttpTargetOptions> & { context?: Partial<TransferContext> };

  async function send(server: Server, { context = {}, ...options }: Options = {}) {
    let { stored } = server;
    const keeps = server.keeps ?? true;
    let seals = 0;
    const withSize: Answering = (response, bytes) =>
      void (bytes === undefined ? response.writeHead(404) : response.writeHead(200, { 'Content-Length': bytes.length, ETag: '"1"' })).end();
    const withBytes: Answering = (response, bytes) => void response.writeHead(bytes === undefined ? 404 : 200, { ETag: '"1"' }).end(bytes);
    await using sink: HttpSink = await startHttpSink({
      onRequest(request, response) {
        if (request.method === 'HEAD') return (server.head ?? withSize)(response, stored);
        if (request.method === 'GET') return (server.get ?? withBytes)(response, stored);
        sink.take(request).then(
          (body) => {
            if (keeps) stored = body;
            (server.put ?? answer(201))(response, stored);
          },
          () => {},
        );
      },
      // Refusals come instead of 100 Continue.
      ...(keeps ? {} : { onExpect: (_request, response) => (server.put ?? answer(412))(response, stored) }),
    });
    const target = createHttpTarget({
      url: `${sink.url}/x.qcow2?sig=hunter2`,
      method: 'PUT',
      access: createNetworkAccess(),
      clock: systemClock,
      limits: { queryMs: 300, idleMs: 300, answerMs: 300, ...options.limits },
      ...options,
    });
    const seal = async () => {
      seals += 1;
      return { sha256 };
    };
    const startMs = performance.now();
    const result = await target.send(opened.image, transferContext({ seal, ...context })).catch((error: unknown) => {
      assert.ok(error instanceof DiskliftError, String(error));
      assert.ok(!error.message.includes('hunter2'), error.message);
      return error;
    });
    return { result, methods: sink.requests.map(({ method }) => method).join(' '), seals, tookMs: performance.now() - startMs, sink };
  }

  function assertFailure({ result }: Awaited<ReturnType<typeof send>>, message: RegExp, code = 'DestinationUnreachable'): void {
    assert.ok(result instanceof DiskliftError, JSON.stringify(result));
    assert.match(result.message, message);
    assert.equal(result.code, code);
  }

  for (const [how, put] of [
    ['the connection is cut', loseAnswer],
    ['nothing is answered', hang],
    ['a proxy has no patience', answer(504)],
  ] as const)
    it(`proves by reading back that the image is stored when ${how}`, async () => {
      const { result, methods, sink } = await send({ put });
      assert.deepEqual(result, { location: `${sink.url}/x.qcow2`, sizeBytes: expected.length, etag: '"1"', sha256, proof: 'readBack' });
      assert.equal(methods, 'PUT HEAD GET');
    });

  it('reads back without HEAD, and without a requested checksum', async () => {
    const { result } = await send({ put: loseAnswer, head: answer(405) }, { context: { seal: async () => ({}) } });
    assert.ok(!(result instanceof DiskliftError), String(result));
    assert.deepEqual([result.proof, result.sha256], ['readBack', undefined]);
  });

  it('gives up an image that is read back a byte at a time, within the limit of all of it', async () => {
    const limits = { queryMs: 300, idleMs: 60_000, answerMs: 300, readBackMs: 500 };
    const { result, tookMs } = await send({ put: loseAnswer, get: (response) => drip(response) }, { limits });
    assert.ok(result instanceof DiskliftError);
    assert.match(result.message, /; the image may be there, which could not be looked up: .*: its answer does not end \(waited 1 s\)$/);
    assert.ok(tookMs < 5000, `${tookMs} ms`);
  });

  it('reads no more of a stored file than the image has', async () => {
    let sentBytes = 0;
    const count = (bytes: number) => {
      sentBytes = bytes;
    };
    assertFailure(
      await send({ put: loseAnswer, head: answer(405), get: (response) => flood(response, count) }),
      /; more than the image's \d+ bytes are there$/,
    );
    assert.ok(sentBytes < 32 * MIB, `${sentBytes}`);
  });

  for (const when of ['before the body', 'after the body'] as const)
    it(`fails when interim answers come without an end, ${when}`, async () => {
      const server: Server = {
        keeps: when === 'after the body',
        put: (response) => response.socket !== null && floodInterim(response.socket),
      };
      const { result, methods } = await send(server, { limits: { queryMs: 300, idleMs: 300, answerMs: 60_000, continueMs: 60_000 } });
      // The server may have stored the body, which is looked up.
      if (when === 'after the body') return assert.ok(!(result instanceof DiskliftError) && methods === 'PUT HEAD GET', String(result));
      assert.ok(result instanceof DiskliftError);
      assert.match(result.message, /: sent more than 10000 interim answers \(1xx\) to one request, and no final one$/);
    });

  const other = (length: number) => Buffer.alloc(length, 7);
  it('fails, and describes the stored file, when it is not the image', async () => {
    const fails = (stored: Buffer | undefined): Server => ({
      put: loseAnswer,
      head: (response) =>
        void (stored === undefined ? response.writeHead(404) : response.writeHead(200, { 'Content-Length': stored.length })).end(),
      get: (response) => void response.writeHead(200).end(stored),
    });
    assertFailure(await send(fails(undefined)), /: the connection was (reset|closed); nothing is there$/);
    const short = await send(fails(expected.subarray(0, MIB)));
    assertFailure(short, new RegExp(`; ${MIB} of ${expected.length} bytes are there$`));
    assert.equal(short.methods, 'PUT HEAD');
    assertFailure(await send(fails(other(expected.length))), /; other bytes are there$/);
    assertFailure(await send(fails(Buffer.concat([expected, other(1)]))), /; more than the image's \d+ bytes are there$/);
    const lying = { ...fails(expected), get: ((response) => void response.writeHead(200).end(expected.subarray(1))) as Answering };
    assertFailure(await send(lying), /; \d+ of \d+ bytes are there$/);
  });

  it('fails, and mentions that the server cannot be asked', async () => {
    for (const [head, why] of [
      [answer(403), /HEAD was answered 403$/],
      [hang, /no answer to HEAD \(waited 0 s\)$/],
      [loseAnswer, /the connection was (reset|closed)$/],
    ] as const)
      assertFailure(
        await send({ put: loseAnswer, head }),
        new RegExp(`; the image may be there, which could not be looked up: .*${why.source}`),
      );
    for (const [get, why] of [
      [answer(403), /GET was answered 403$/],
      [hang, /no answer to GET/],
      [((response, bytes) => void response.writeHead(200).write(bytes?.subarray(0, MIB))) as Answering, /sends no more bytes/],
      [
        ((response, bytes) => void response.writeHead(200).write(bytes?.subarray(0, MIB), () => response.destroy())) as Answering,
        /closed|reset|aborted/,
      ],
    ] as const)
      assertFailure(await send({ put: loseAnswer, get }), new RegExp(`could not be looked up: .*(${why.source})`));
  });

  it('seals the disk before it accepts the stored file as the image', async () => {
    const broken = new DiskliftError('SourceChanged', 'changed');
    const context = { hasSentBefore: true, seal: () => Promise.reject(broken) };
    const { result } = await send({ stored: expected, keeps: false }, { ifNoneMatch: true, context });
    assert.equal(result, broken);
  });

  describe('in an earlier attempt', () => {
    for (const status of [403, 405, 409, 412, 423])
      it(`recognizes the stored image as its own after a ${status}`, async () => {
        const server = { stored: expected, keeps: false, put: answer(status) };
        const { result, seals } = await send(server, { ifNoneMatch: true, context: { hasSentBefore: true } });
        assert.ok(!(result instanceof DiskliftError), String(result));
        assert.deepEqual([result.proof, result.sha256, seals], ['readBack', sha256, 1]);
      });

    it('fails when another file is stored', async () => {
      const sent = await send({ stored: other(17), keeps: false }, { ifNoneMatch: true, context: { hasSentBefore: true } });
      const message = /answered 412: there is something at that place already, perhaps from an earlier attempt of this export; 17 of/;
      assertFailure(sent, message, 'DestinationRejected');
    });

    it('may try again behind a 423, because its own request may still hold the lock', async () => {
      const sent = await send({ stored: other(17), keeps: false, put: answer(423) }, { context: { hasSentBefore: true } });
      assert.ok(sent.result instanceof DiskliftError && sent.result.retryable, String(sent.result));
      assert.match(
        sent.result.message,
        /answered 423: the place is locked by a WebDAV client, or still by an earlier attempt of this export/,
      );
    });

    it('does not accept a stored file in a first attempt', async () => {
      const sent = await send({ stored: expected, keeps: false }, { ifNoneMatch: true });
      assertFailure(sent, /answered 412: there is something at that place already$/, 'DestinationRejected');
      assert.equal(sent.methods, 'PUT');
    });
  });

  it('does not look up an image that was sent by POST', async () => {
    const sent = await send({ put: loseAnswer }, { method: 'POST' });
    assertFailure(sent, /: the connection was (reset|closed)$/);
    assert.equal(sent.methods, 'POST');
  });

  for (const [when, server] of [
    ['HEAD', { put: loseAnswer, head: hang }],
    ['GET', { put: loseAnswer, get: hang }],
  ] as const)
    it(`ends within a second when it is cancelled while it waits for ${when}`, async () => {
      const cancel = new AbortController();
      setTimeout(() => cancel.abort(new DiskliftError('Cancelled', 'enough')), 500);
      const limits = { queryMs: 60_000, idleMs: 60_000 };
      const sent = await send(server, { limits, context: { signal: cancel.signal } });
      assertFailure(sent, /^enough$/, 'Cancelled');
      assert.ok(sent.tookMs < 1500, `${sent.tookMs} ms`);
    });
});
