import assert from 'node:assert/strict';
import type http from 'node:http';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { createNetworkAccess } from '../../../../src/network/destination-policy.ts';
import { createHttpTarget, type HttpTargetOptions } from '../../../../src/targets/http/http-target.ts';
import { type HttpSinkOptions, startHttpSink } from '../../../helpers/http-sink.ts';
import { type ImageInProcess, openImage } from '../../../helpers/image-in-process.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { transferContext } from '../../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;

describe('http target and the words of a server that refuses', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('a.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 3 * MIB, content: 'random' }]));
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  /** @returns the failure, or the proof */
  async function send(sinkOptions: HttpSinkOptions, options: Partial<HttpTargetOptions> = {}, hasSentBefore = false) {
    await using sink = await startHttpSink(sinkOptions);
    const target = createHttpTarget({
      url: `${sink.url}/a/b/x.qcow2`,
      method: 'PUT',
      access: createNetworkAccess(),
      clock: systemClock,
      ...options,
    });
    return await target.send(opened.image, transferContext({ hasSentBefore })).then(
      ({ proof }) => proof,
      (error: unknown) => {
        assert.ok(error instanceof DiskliftError, String(error));
        return error;
      },
    );
  }

  const beforehand = (status: number, headers: http.OutgoingHttpHeaders = {}, text = ''): HttpSinkOptions => ({
    onExpect: (_request, response) => void response.writeHead(status, headers).end(text),
  });
  const afterwards = (status: number, headers: http.OutgoingHttpHeaders = {}, text = ''): HttpSinkOptions => ({
    onRequest: (request, response) => void request.resume().once('end', () => response.writeHead(status, headers).end(text)),
  });

  const rows: [what: string, sink: HttpSinkOptions, code: string, retryable: boolean, message: RegExp][] = [
    [
      'names the new place of a 301, without its secrets',
      beforehand(301, { Location: 'https://me:pw@new.example/a?sig=abc#f' }),
      'DestinationRejected',
      false,
      /answered 301: .*\(https:\/\/new\.example\/a\)$/,
    ],
    ['names the new place of a 302 that is relative', beforehand(302, { Location: '/c' }), 'DestinationRejected', false, /:\d+\/c\)$/],
    ['does without a place where a 301 names none', beforehand(301), 'DestinationRejected', false, /send the image there$/],
    [
      'names the authentication that a server asks for',
      beforehand(401, { 'WWW-Authenticate': 'Digest realm="dav, x", nonce="a", qop="auth"' }),
      'CredentialsInvalid',
      false,
      /the server asks for Digest, which is not supported$/,
    ],
    [
      'names the methods that a server takes',
      beforehand(405, { Allow: 'GET, HEAD' }),
      'DestinationRejected',
      false,
      /does not take this method here, only GET, HEAD$/,
    ],
    [
      'names the folder that may be missing behind a 409',
      beforehand(409),
      'DestinationRejected',
      false,
      /answered 409: the folder http:\/\/127\.0\.0\.1:\d+\/a\/b\/ may not exist \(create it, or set createCollections\)/,
    ],
    ['names that folder behind a 404, too', beforehand(404), 'DestinationRejected', false, /answered 404: .*the folder .*\/a\/b\/ may not/],
    [
      'says what a lock is',
      beforehand(423, {}, 'Locked by joe'),
      'DestinationRejected',
      false,
      /locked by a WebDAV client \(Locked by joe\)$/,
    ],
    ...[404, 405, 409].map((status): (typeof rows)[number] => [
      `may try again after a ${status} for bytes that were taken`,
      afterwards(status),
      'DestinationRejected',
      true,
      new RegExp(`answered ${status}: `),
    ]),
    ['takes a 403 for what it says also behind bytes', afterwards(403), 'CredentialsInvalid', false, /answered 403: the credentials/],
    [
      'finds the failure inside of a 207',
      afterwards(207, {}, '<multistatus><response><status>HTTP/1.1 507 Insufficient Storage</status></response></multistatus>'),
      'DestinationRejected',
      true,
      /answered 207 with 507 inside: the server has no space left \(HTTP\/1\.1 507 Insufficient Storage\)$/,
    ],
    [
      'finds a failure far behind the part of a 207 that is shown',
      afterwards(207, {}, `<a>${'<status>HTTP/1.1 201 Created</status>'.repeat(500)}<status>HTTP/1.1 403 Forbidden</status></a>`),
      'CredentialsInvalid',
      false,
      /answered 207 with 403 inside/,
    ],
    [
      'believes in no 207 that is too long to be judged',
      afterwards(207, {}, '<status>HTTP/1.1 201 Created</status>'.repeat(3000)),
      'DestinationRejected',
      true,
      /answered 207 with a failure inside/,
    ],
    [
      'believes in no 207 without a status',
      afterwards(207, {}, 'stored'),
      'DestinationRejected',
      true,
      /answered 207 with a failure inside/,
    ],
    [
      'takes an error document for a failure, whatever the status',
      afterwards(200, {}, '<?xml version="1.0"?>\n<Error><Code>InternalError</Code></Error>'),
      'DestinationRejected',
      true,
      /answered 200 with a failure inside \(InternalError\)$/,
    ],
    ['takes a part for no success', afterwards(206), 'DestinationRejected', false, /answered 206: a part/],
  ];
  for (const [what, sink, code, retryable, message] of rows)
    it(what, async () => {
      const failure = await send(sink);
      assert.ok(failure instanceof DiskliftError, String(failure));
      assert.match(failure.message, message);
      assert.deepEqual([failure.code, failure.retryable], [code, retryable]);
      assert.ok(!/pw|sig=|nonce|\n/.test(failure.message), failure.message);
    });

  it('accepts a 207 that has only successes', async () => {
    assert.equal(await send(afterwards(207, {}, '<status>HTTP/1.1 201 Created</status>')), 'status');
  });

  it('reports for a 403 after an earlier attempt that its bytes may block the upload', async () => {
    const failure = await send(beforehand(403), {}, true);
    assert.ok(failure instanceof DiskliftError);
    assert.deepEqual([failure.code, failure.retryable], ['DestinationRejected', false]);
    assert.match(failure.message, /or an earlier attempt has left bytes there that must not be replaced/);
  });

  it('reports for a 409 to POST after an earlier attempt that the image may be stored', async () => {
    const failure = await send(beforehand(409), { method: 'POST' }, true);
    assert.match(String(failure), /answered 409: there is a conflict with what is there, perhaps from an earlier attempt of this export$/);
  });
});
