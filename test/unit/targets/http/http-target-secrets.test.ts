import assert from 'node:assert/strict';
import { inspect } from 'node:util';
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
const USER = 'planted-user';
const PASSWORD = 'planted password/1';
const TOKEN = 'planted-token-2';
const SIGNATURE = 'planted+signature/3=';
const PATH = '/disks/a.qcow2';

/** As they are, and in each notation that they are sent in. */
const PLANTED = [
  USER,
  PASSWORD,
  encodeURIComponent(PASSWORD),
  TOKEN,
  SIGNATURE,
  encodeURIComponent(SIGNATURE),
  Buffer.from(`${USER}:${PASSWORD}`).toString('base64'),
];

describe('http target and secrets', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('a.img'), 4 * MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]));
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  function urlOf(base: string): string {
    const user = `${USER}:${encodeURIComponent(PASSWORD)}@`;
    return `${base.replace('//', `//${user}`)}${PATH}?X-Amz-Signature=${encodeURIComponent(SIGNATURE)}#${TOKEN}`;
  }

  /** Everything that there is to see of a failure, or of a receipt. */
  async function show(base: string, options: Partial<HttpTargetOptions> = {}): Promise<{ seen: string; failure?: DiskliftError }> {
    try {
      const target = createHttpTarget({
        url: urlOf(base),
        method: 'PUT',
        headers: { 'X-Token': TOKEN, Cookie: `session=${TOKEN}` },
        access: createNetworkAccess(),
        clock: systemClock,
        limits: { continueMs: 100, connectMs: 300, idleMs: 200, answerMs: 200 },
        ...options,
      });
      return { seen: inspect(await target.send(opened.image, transferContext()), { depth: null }) };
    } catch (failure) {
      assert.ok(failure instanceof DiskliftError, String(failure));
      const chain: string[] = [];
      for (let error: unknown = failure; error !== undefined; error = error instanceof Error ? error.cause : undefined)
        chain.push(inspect(error, { depth: null, showHidden: true }), JSON.stringify(error), String(error));
      return { seen: chain.join('\n'), failure };
    }
  }

  function assertNothingPlanted(seen: string): void {
    for (const secret of PLANTED) assert.ok(!seen.includes(secret), `${secret} in ${seen}`);
  }

  /** Repeats everything that it received, as plain text and as a page of HTML. */
  const repeating =
    (status: number): NonNullable<HttpSinkOptions['onExpect']> =>
    ({ headers, url }, response) => {
      response.writeHead(status).end(`<p>${JSON.stringify(headers)}</p> no ${url} for ${USER} with ${PASSWORD} or <b>${SIGNATURE}</b>`);
    };

  const sinks: Record<string, HttpSinkOptions> = {
    'takes the image': {},
    'repeats what it was told': { onExpect: repeating(400) },
    'repeats it in refusing the credentials': { onExpect: repeating(403) },
    'repeats it in a success': {
      onRequest: (request, response) => void request.resume().once('end', () => repeating(202)(request, response)),
    },
    'redirects to where it was asked for': { onExpect: ({ url }, response) => void response.writeHead(307, { Location: url }).end() },
    'redirects to a place that is none': {
      onExpect: ({ headers }, response) => void response.writeHead(307, { Location: `ftp://${headers['x-token']}@x/` }).end(),
    },
    'redirects to a port that is none': {
      onExpect: ({ headers }, response) => void response.writeHead(307, { Location: `http://${headers['x-token']}:x/` }).end(),
    },
    closes: { onRequest: ({ socket }) => void socket.destroy() },
    'is silent': { onRequest: (request) => void request.resume() },
    'does not read': { onRequest: (request) => void request.pause() },
    'speaks no HTTP': { onRequest: ({ socket, headers }) => void socket.end(`${headers['x-token']} rubbish\r\n\r\n`) },
  };
  for (const [what, options] of Object.entries(sinks))
    it(`shows no secret when the server ${what}`, async () => {
      await using sink = await startHttpSink(options);
      const { seen, failure } = await show(sink.url);
      assert.equal(failure === undefined, what === 'takes the image');
      assertNothingPlanted(seen);
      assert.ok(seen.includes(PATH), seen);
    });

  it('shows a text of the server that has no secret', async () => {
    await using sink = await startHttpSink({ onExpect: (_request, response) => void response.writeHead(400).end('no such bucket') });
    assert.match((await show(sink.url)).failure?.message ?? '', /answered 400 \(no such bucket\)$/);
  });

  it('shows no secret when there is no server, no name, no route and no TLS', async () => {
    await using sink = await startHttpSink();
    for (const base of ['http://127.0.0.1:1', 'http://name.invalid', `https://127.0.0.1:${new URL(sink.url).port}`])
      assertNothingPlanted((await show(base)).seen);
    assertNothingPlanted((await show('http://127.0.0.1', { proxy: { httpProxy: urlOf('http://127.0.0.1:1') } })).seen);
  });

  it('shows no secret in failures before it sends', async () => {
    const wrong: Partial<HttpTargetOptions>[] = [
      { url: `http://${TOKEN}:x/` },
      { url: `ftp://${USER}:${TOKEN}@backup.example/` },
      { headers: { 'X-Token': `${TOKEN}\r\nHost: elsewhere` } },
      { headers: { 'X Token': TOKEN } },
      { headers: { 'Transfer-Encoding': TOKEN } },
      { headers: { 'content-length': '1' } },
      { headers: { Expect: TOKEN } },
    ];
    for (const options of wrong) {
      const { seen, failure } = await show('http://127.0.0.1:1', options);
      assert.equal(failure?.code, 'InvalidRequest');
      assertNothingPlanted(seen);
    }
  });
});
