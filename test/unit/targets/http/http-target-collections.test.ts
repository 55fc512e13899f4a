import assert from 'node:assert/strict';
import type http from 'node:http';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { createNetworkAccess } from '../../../../src/network/destination-policy.ts';
import { createHttpTarget, type HttpTargetOptions } from '../../../../src/targets/http/http-target.ts';
import { startHttpSink } from '../../../helpers/http-sink.ts';
import { type ImageInProcess, openImage } from '../../../helpers/image-in-process.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { transferContext } from '../../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;

describe('http target and the folders above an image', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('a.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]));
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  interface Server {
    /** The collections that exist. */
    existing?: string[];
    /** Without the collection above. */
    noParent?: number;
    refuse?(url: string, response: http.ServerResponse): boolean;
  }

  /** A server that follows RFC 4918. */
  async function send({ existing = [], noParent = 409, refuse = () => false }: Server, options: Partial<HttpTargetOptions> = {}) {
    const collections = new Set(['/', ...existing]);
    const above = (url: string) => url.replace(/[^/]+\/?$/, '');
    await using sink = await startHttpSink({
      onRequest(request, response) {
        const url = request.url ?? '';
        if (refuse(url, response)) return;
        if (request.method !== 'MKCOL') {
          sink.take(request).then(
            () => response.writeHead(collections.has(above(url)) ? 201 : 409).end(),
            () => {},
          );
          return;
        }
        const status = collections.has(url) ? 405 : collections.has(above(url)) ? 201 : noParent;
        if (status === 201) collections.add(url);
        response.writeHead(status).end();
      },
    });
    const target = createHttpTarget({
      url: `${sink.url}/a/b%20c/x.qcow2`,
      method: 'PUT',
      createCollections: true,
      access: createNetworkAccess(),
      clock: systemClock,
      ...options,
    });
    const startMs = performance.now();
    const result = await target.send(opened.image, transferContext({ signal: AbortSignal.timeout(20_000) })).then(
      ({ proof }) => proof,
      (error: unknown) => {
        assert.ok(error instanceof DiskliftError, String(error));
        return error;
      },
    );
    const asked = sink.requests.map(({ method, url }) => `${method} ${url}`);
    return { result, asked, headers: sink.requests.map(({ headers }) => headers), tookMs: performance.now() - startMs };
  }

  const PUT = 'PUT /a/b%20c/x.qcow2';

  for (const noParent of [409, 404])
    it(`makes missing folders, from the top, at a server that answers ${noParent} where a parent is missing`, async () => {
      const { result, asked } = await send({ noParent });
      assert.equal(result, 'status');
      assert.deepEqual(asked, ['MKCOL /a/b%20c/', 'MKCOL /a/', 'MKCOL /a/b%20c/', PUT]);
    });

  it('needs one request where the folder exists', async () => {
    const { result, asked } = await send({ existing: ['/a/', '/a/b%20c/'] });
    assert.deepEqual([result, asked], ['status', ['MKCOL /a/b%20c/', PUT]]);
  });

  it('makes no folder for a file at the root, and none without the option', async () => {
    const { asked } = await send({ existing: ['/a/'] }, { createCollections: false });
    assert.deepEqual(asked, [PUT]);
  });

  it('uses the credentials of the upload', async () => {
    const { headers } = await send({}, { headers: { Authorization: 'Bearer t' } });
    assert.deepEqual([...new Set(headers.map(({ authorization }) => authorization))], ['Bearer t']);
  });

  it('sends the image although a folder was refused, and mentions the refusal when the upload fails', async () => {
    const refuse: Server['refuse'] = (url, response) => {
      if (!url.endsWith('/')) return false;
      response.writeHead(403).end();
      return true;
    };
    assert.equal((await send({ existing: ['/a/', '/a/b%20c/'], refuse })).result, 'status');
    assert.match(String((await send({ refuse })).result), /answered 409: .*; MKCOL \/a\/b%20c\/ was answered 403$/);
  });

  it('names the folder that could not be made when even the highest is refused', async () => {
    const refuse: Server['refuse'] = (url, response) => {
      if (!url.endsWith('/')) return false;
      response.writeHead(409).end();
      return true;
    };
    assert.match(String((await send({ refuse })).result), /; MKCOL \/a\/ was answered 409$/);
  });

  it('is unreachable where the server does not answer', async () => {
    const { result, tookMs } = await send({ refuse: () => true }, { limits: { queryMs: 200 } });
    assert.match(String(result), /\/a\/b%20c\/: no answer to MKCOL \(waited 0 s\)$/);
    assert.ok(result instanceof DiskliftError && result.code === 'DestinationUnreachable' && result.retryable);
    assert.ok(tookMs < 2000, `${tookMs}`);
  });
});
