import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { RangedFile } from '../../../../src/sources/remote/contract.ts';
import { hashFile } from '../../../../src/sources/remote/hash-file.ts';
import { NEVER } from '../../../helpers/image-in-process.ts';
import { nameHttp, nameS3 } from '../../../helpers/remote-images.ts';

const CONTENT = randomBytes(3 * 1024 * 1024);
const LIMITS = { answerMs: 300, silentMs: 300 };

interface Asked {
  request: http.IncomingMessage;
  response: http.ServerResponse;
  start: number;
  end: number;
  /** Number of the request: 1 is the first. */
  count: number;
  /** Answers as a server should. */
  serve(headers?: http.OutgoingHttpHeaders, bytes?: Buffer): void;
}

type Behaviour = (asked: Asked) => void;

interface FaultyServer extends AsyncDisposable {
  url: string;
  requests: http.IncomingMessage[];
}

async function startFaulty(behave: Behaviour): Promise<FaultyServer> {
  const requests: http.IncomingMessage[] = [];
  const server = http.createServer((request, response) => {
    requests.push(request);
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    const [start, end] = [Number(first), Math.min(Number(last) + 1, CONTENT.length)];
    const serve: Asked['serve'] = (headers = {}, bytes = CONTENT.subarray(start, end)) => {
      const own = { ETag: '"one"', 'Content-Range': `bytes ${start}-${end - 1}/${CONTENT.length}`, 'Content-Length': end - start };
      const all = Object.entries({ ...own, ...headers }).filter(([, value]) => value !== undefined);
      response.writeHead(206, Object.fromEntries(all)).end(bytes);
    };
    behave({ request, response, start, end, count: requests.length, serve });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://user:pass-word@127.0.0.1:${(server.address() as AddressInfo).port}/a.qcow2?token=hidden`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Opens the file and uses it, and closes its folder. */
async function withFile<T>(url: string, use: (file: RangedFile) => Promise<T>, signal = NEVER): Promise<T> {
  const { folder, path } = nameHttp(url, LIMITS);
  try {
    return await use(await folder.open(path, signal));
  } finally {
    await folder.dispose();
  }
}

async function readWhole(file: RangedFile): Promise<Buffer> {
  const bytes = Buffer.alloc(file.sizeBytes);
  await file.read(bytes, 0, NEVER);
  return bytes;
}

async function failureOf(behave: Behaviour, use: (file: RangedFile) => Promise<unknown> = readWhole): Promise<DiskliftError> {
  await using server = await startFaulty(behave);
  try {
    await withFile(server.url, use);
  } catch (error) {
    assert.ok(error instanceof DiskliftError, error instanceof Error ? error.stack : String(error));
    assert.match(error.message, /^http:\/\/127\.0\.0\.1:\d+\/a\.qcow2: [^\n]+$/);
    assert.doesNotMatch(error.message, /pass-word|hidden/);
    return error;
  }
  return assert.fail('no failure');
}

/** Behaves well for the first request, which opens the file. */
const fromSecond =
  (behave: Behaviour): Behaviour =>
  (asked) =>
    asked.count === 1 ? asked.serve() : behave(asked);

describe('a file on an HTTP server', () => {
  it('is read whole, and its tag is pinned from the second request on', async () => {
    await using server = await startFaulty(({ serve }) => serve());
    await withFile(server.url, async (file) => {
      assert.ok((await readWhole(file)).equals(CONTENT));
      assert.equal((await file.identity()).etag, '"one"');
    });
    const conditions = server.requests.map(({ headers }) => headers['if-match']);
    assert.deepEqual(new Set(conditions.slice(1)), new Set(['"one"']));
    assert.equal(server.requests[0]?.headers.authorization, `Basic ${Buffer.from('user:pass-word').toString('base64')}`);
  });

  it('keeps its connections', async () => {
    const sockets = new Set<unknown>();
    await using server = await startFaulty(({ request, serve }) => {
      sockets.add(request.socket);
      serve();
    });
    await withFile(server.url, async (file) => {
      for (let at = 70_000; at < 3_000_000; at += 100_000) await file.read(Buffer.alloc(1000), at, NEVER);
    });
    assert.equal(sockets.size, 1);
  });

  for (const [what, behave] of [
    ['answers 503 with Retry-After', ({ response }) => response.writeHead(503, { 'Retry-After': '0' }).end()],
    ['closes the connection', ({ request }) => request.socket.destroy()],
    [
      'ends in the middle of a body',
      ({ response, start, end }) => {
        response.writeHead(206, {
          ETag: '"one"',
          'Content-Range': `bytes ${start}-${end - 1}/${CONTENT.length}`,
          'Content-Length': end - start,
        });
        response.write(CONTENT.subarray(start, start + 100), () => response.destroy());
      },
    ],
    ['sends nothing', () => {}],
    [
      'stops in the middle of a body',
      ({ response, start, end }) => {
        response.writeHead(206, {
          ETag: '"one"',
          'Content-Range': `bytes ${start}-${end - 1}/${CONTENT.length}`,
          'Content-Length': end - start,
        });
        response.write(CONTENT.subarray(start, start + 100));
      },
    ],
    [
      'sends a chunked body that is too short',
      ({ serve }) => serve({ 'Content-Length': undefined, 'Transfer-Encoding': 'chunked' }, CONTENT.subarray(0, 7)),
    ],
  ] as [string, Behaviour][])
    it(`is read in spite of a server that ${what} once`, async () => {
      let hasFailed = false;
      await using server = await startFaulty((asked) => {
        if (asked.count === 1 || hasFailed) return asked.serve();
        hasFailed = true;
        behave(asked);
      });
      assert.ok((await withFile(server.url, readWhole)).equals(CONTENT));
      assert.ok(hasFailed);
    });

  for (const [what, behave, code, message] of [
    ['ignores ranges', ({ response }) => response.writeHead(200).end(CONTENT), 'SourceReadError', /ignores ranges .*download the image/],
    ['has no such file', ({ response }) => response.writeHead(404).end(), 'SourceNotFound', /is not there/],
    ['refuses the credentials', ({ response }) => response.writeHead(403).end('secret'), 'SourcePermissionDenied', /credentials/],
    [
      'redirects to another server',
      ({ response }) => response.writeHead(302, { Location: 'http://127.0.0.2/a' }).end(),
      'SourceReadError',
      /another server, http:\/\/127\.0\.0\.2/,
    ],
    [
      'redirects in a circle',
      ({ response }) => response.writeHead(302, { Location: '/a.qcow2' }).end(),
      'SourceReadError',
      /more than 5 times/,
    ],
    [
      'sends another range',
      ({ serve }) => serve({ 'Content-Range': `bytes 1-65536/${CONTENT.length}` }),
      'SourceReadError',
      /answers with bytes 1-65536/,
    ],
    ['names no range', ({ serve }) => serve({ 'Content-Range': 'bytes 0-65535/*' }), 'SourceReadError', /names no range/],
    ['compresses', ({ serve }) => serve({ 'Content-Encoding': 'gzip' }), 'SourceReadError', /encoded \(gzip\)/],
    ['sends too much', ({ serve }) => serve({ 'Content-Length': undefined }, CONTENT), 'SourceReadError', /sent more than/],
    ['is away', ({ request }) => request.socket.destroy(), 'SourceReadError', /connection/],
    ['never answers', () => {}, 'SourceReadError', /no answer \(waited/],
    ['speaks no HTTP', ({ request }) => request.socket.end('SSH-2.0\r\n'), 'SourceReadError', /not valid HTTP/],
    [
      'has lost the first bytes',
      ({ response }) => response.writeHead(416, { 'Content-Range': 'bytes */5' }).end(),
      'SourceReadError',
      /416/,
    ],
  ] as [string, Behaviour, string, RegExp][])
    it(`fails in one line where the server ${what}`, async () => {
      const failure = await failureOf(behave);
      assert.equal(failure.code, code);
      assert.match(failure.message, message);
    });

  for (const [what, behave] of [
    ['412', ({ response }) => response.writeHead(412).end()],
    ['another tag', ({ serve }) => serve({ ETag: '"two"' })],
    ['no tag', ({ serve }) => serve({ ETag: undefined })],
    ['another length', ({ serve, start, end }) => serve({ 'Content-Range': `bytes ${start}-${end - 1}/${CONTENT.length + 1}` })],
    ['404', ({ response }) => response.writeHead(404).end()],
  ] as [string, Behaviour][]) {
    it(`has changed where a later answer is ${what}`, async () => {
      assert.equal((await failureOf(fromSecond(behave))).code, 'SourceChanged');
    });
    it(`has changed at the end where the last answer is ${what}`, async () => {
      assert.equal((await failureOf(fromSecond(behave), (file) => file.identity())).code, 'SourceChanged');
    });
  }

  it('is compared by weak tags and times as well, for which no condition is sent', async () => {
    const weak = await failureOf(({ serve, count }) => serve({ ETag: count === 1 ? 'W/"a"' : 'W/"b"' }));
    assert.equal(weak.code, 'SourceChanged');
    const times = ['Mon, 30 Nov 2026 10:00:00 GMT', 'Mon, 30 Nov 2026 10:00:01 GMT'];
    const timed = await failureOf(({ serve, count }) => serve({ ETag: undefined, 'Last-Modified': times[count === 1 ? 0 : 1] }));
    assert.equal(timed.code, 'SourceChanged');
  });

  it('may miss writes where the server names neither tag nor time', async () => {
    await using server = await startFaulty(({ serve }) => serve({ ETag: undefined }));
    assert.equal(await withFile(server.url, async ({ identityMissesWrites }) => identityMissesWrites), true);
  });

  it('is followed to another path of the same server, with the credentials', async () => {
    await using server = await startFaulty(({ request, response, serve }) => {
      if (request.url?.startsWith('/moved') === true) return serve();
      response.writeHead(307, { Location: '/moved/a' }).end();
    });
    assert.ok((await withFile(server.url, readWhole)).equals(CONTENT));
    assert.ok(server.requests.every(({ headers }) => headers.authorization !== undefined));
  });

  it('gives up at once when it is cancelled, whatever hangs', async () => {
    await using server = await startFaulty(fromSecond(() => {}));
    const { folder, path } = nameHttp(server.url, { answerMs: 60_000, silentMs: 60_000 });
    const file = await folder.open(path, NEVER);
    const cancel = new AbortController();
    const reading = file.read(Buffer.alloc(100), 100_000, cancel.signal);
    const startMs = performance.now();
    setTimeout(() => cancel.abort(new DiskliftError('Cancelled', 'stop')), 50);
    await assert.rejects(reading, { code: 'Cancelled' });
    const hashing = hashFile(file, NEVER);
    await folder.dispose();
    await assert.rejects(hashing, { code: 'Cancelled' });
    assert.ok(performance.now() - startMs < 1000);
  });
});

describe('an object on an S3 server', () => {
  const KEYS = { accessKeyId: 'AKIA-of-the-test', secretAccessKey: 'hidden-secret' };

  /** @returns the failure of opening and reading the object */
  async function s3Failure(behave: Behaviour): Promise<DiskliftError> {
    await using server = await startFaulty(behave);
    const endpoint = new URL(server.url).origin.replace(/\/\/.*@/, '//');
    const { folder, path } = nameS3('s3://bucket/a.qcow2', { endpoint, keys: KEYS, limits: { connectMs: 300, silentMs: 300 } });
    try {
      await readWhole(await folder.open(path, NEVER));
    } catch (error) {
      assert.ok(error instanceof DiskliftError, error instanceof Error ? error.stack : String(error));
      assert.match(error.message, /^s3:\/\/bucket\/a\.qcow2 at 127\.0\.0\.1:\d+: [^\n]+$/);
      assert.doesNotMatch(error.message, /AKIA|hidden/);
      return error;
    } finally {
      await folder.dispose();
    }
    return assert.fail('no failure');
  }

  for (const [what, behave, code] of [
    ['never answers', () => {}, 'SourceReadError'],
    ['closes connections', ({ request }) => request.socket.destroy(), 'SourceReadError'],
    ['ignores ranges', ({ response }) => response.writeHead(200, { ETag: '"one"' }).end(CONTENT.subarray(0, 100)), 'SourceReadError'],
    ['sends too much', ({ serve }) => serve({ 'Content-Length': undefined }, CONTENT), 'SourceReadError'],
    ['sends another range', ({ serve }) => serve({ 'Content-Range': `bytes 1-65536/${CONTENT.length}` }), 'SourceReadError'],
    ['has replaced the object', fromSecond(({ serve }) => serve({ ETag: '"two"' })), 'SourceChanged'],
    ['honours If-Match', fromSecond(({ response }) => response.writeHead(412).end()), 'SourceChanged'],
    [
      'refuses the keys',
      ({ response }) => response.writeHead(403).end('<Error><Code>AccessDenied</Code></Error>'),
      'SourcePermissionDenied',
    ],
    [
      'stops in the middle of a body',
      fromSecond(({ response, start, end }) => {
        response.writeHead(206, {
          ETag: '"one"',
          'Content-Range': `bytes ${start}-${end - 1}/${CONTENT.length}`,
          'Content-Length': end - start,
        });
        response.write(CONTENT.subarray(start, start + 100));
      }),
      'SourceReadError',
    ],
  ] as [string, Behaviour, string][])
    it(`fails in one line where the server ${what}`, async () => {
      assert.equal((await s3Failure(behave)).code, code);
    });
});
