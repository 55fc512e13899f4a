/**
 * Words of servers that the author of a request must not see: of places that may be in the cluster, and behind
 * redirects.
 */

import assert from 'node:assert/strict';
import type http from 'node:http';
import { systemClock } from '../../../src/common/clock.ts';
import { DiskliftError } from '../../../src/common/errors.ts';
import type { ClusterPlaces } from '../../../src/network/cluster-places.ts';
import { createDestinationPolicy, createNetworkAccess, type NetworkAccess } from '../../../src/network/destination-policy.ts';
import type { Receipt } from '../../../src/targets/contract.ts';
import { createHttpTarget } from '../../../src/targets/http/http-target.ts';
import { startHttpSink } from '../../helpers/http-sink.ts';
import { type ImageInProcess, openImage } from '../../helpers/image-in-process.ts';
import { sendToS3 } from '../../helpers/s3-export.ts';
import { sendTcp } from '../../helpers/send-tcp.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { startTcpPeer } from '../../helpers/tcp-peer.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { transferContext } from '../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;
const WORDS = 'internal-words-of-the-server';

describe('words of a server that may be in the cluster', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let asked: [address: string, host: string][];
  beforeEach(async () => {
    asked = [];
    opened = await openImage(await createDisk(temp('a.img'), 4 * MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]));
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  function accessOf(mayQuote: boolean): NetworkAccess {
    return {
      ...createNetworkAccess(),
      mayQuote(address, host) {
        asked.push([address, host]);
        return mayQuote;
      },
    };
  }

  async function put(url: string, access: NetworkAccess): Promise<Receipt | DiskliftError> {
    try {
      return await createHttpTarget({ url, method: 'PUT', access, clock: systemClock }).send(opened.image, transferContext());
    } catch (error) {
      assert.ok(error instanceof DiskliftError, String(error));
      return error;
    }
  }

  const saying =
    (status: number, headers: http.OutgoingHttpHeaders = {}) =>
    (_request: http.IncomingMessage, response: http.ServerResponse): void =>
      void response.writeHead(status, headers).end(`<p>${WORDS}</p>`);

  for (const [what, status, headers] of [
    ['text', 400, {}],
    ['text and its methods', 405, { Allow: 'WORDS' }],
    ['text and its schemes', 401, { 'WWW-Authenticate': 'WORDS x=y' }],
    ['new place', 301, { Location: `/${WORDS}` }],
  ] as const)
    it(`are not shown, and its status is: ${what} of a ${status}`, async () => {
      await using sink = await startHttpSink({ onExpect: saying(status, headers) });
      const open = `${await put(`${sink.url}/a`, accessOf(true))}`;
      assert.match(open, new RegExp(WORDS), 'the words are there to be seen');
      const closed = `${await put(`${sink.url}/a`, accessOf(false))}`;
      assert.doesNotMatch(closed, new RegExp(`${WORDS}|WORDS`));
      assert.match(closed, new RegExp(`answered ${status}.*\\(its answer is not shown, because it may come from inside the cluster`));
      assert.deepEqual(asked, Array(2).fill(['127.0.0.1', '127.0.0.1']));
    });

  it('are not shown as the place of an image that has arrived', async () => {
    const onRequest = (request: http.IncomingMessage, response: http.ServerResponse) =>
      void request.resume().once('end', () => response.writeHead(201, { Location: `/${WORDS}` }).end());
    await using sink = await startHttpSink({ onRequest });
    assert.equal(((await put(`${sink.url}/a`, accessOf(true))) as Receipt).location, `${sink.url}/${WORDS}`);
    assert.equal(((await put(`${sink.url}/a`, accessOf(false))) as Receipt).location, `${sink.url}/a`);
  });

  it('are not shown as the place that they redirect to', async () => {
    await using last = await startHttpSink({ onExpect: (_request, response) => void response.writeHead(400).end() });
    await using first = await startHttpSink({ onExpect: saying(307, { Location: `${last.url}/${WORDS}` }) });
    assert.match(`${await put(`${first.url}/a`, accessOf(true))}`, new RegExp(`${last.url}/${WORDS}: answered 400`));
    assert.match(`${await put(`${first.url}/a`, accessOf(false))}`, new RegExp(`${last.url}: answered 400`));
  });

  it('are not shown after a redirect to another origin, whatever the policy allows', async () => {
    await using last = await startHttpSink({ onExpect: saying(400) });
    await using first = await startHttpSink({ onExpect: saying(308, { Location: `${last.url}/b` }) });
    const failure = `${await put(`${first.url}/a`, accessOf(true))}`;
    assert.match(failure, new RegExp(`${last.url}/b: answered 400 \\(its answer is not shown, because a redirect led there\\)$`));
  });

  it('are shown behind a redirect to the same origin', async () => {
    const onExpect = (request: http.IncomingMessage, response: http.ServerResponse) =>
      request.url === '/a' ? saying(307, { Location: '/b' })(request, response) : saying(400)(request, response);
    await using sink = await startHttpSink({ onExpect });
    assert.match(`${await put(`${sink.url}/a`, accessOf(true))}`, new RegExp(`/b: answered 400 \\(${WORDS}\\)$`));
  });

  for (const [code, isKnown] of [
    ['AccessDenied', true],
    ['InternalWords', false],
  ] as const)
    it(`are not shown of S3, ${isKnown ? 'but for a code of S3' : 'nor a code that S3 does not have'}`, async () => {
      const text = `<Error><Code>${code}</Code><Message>${WORDS}</Message></Error>`;
      const onRequest = (request: http.IncomingMessage, response: http.ServerResponse) =>
        void request.resume().once('end', () => response.writeHead(403, { 'Content-Type': 'application/xml' }).end(text));
      await using sink = await startHttpSink({ onRequest });
      const fail = async (mayQuote: boolean) => {
        const { failure } = await sendToS3({ image: opened.image, url: sink.url, options: { access: accessOf(mayQuote) } });
        return failure?.message ?? assert.fail('it was sent');
      };
      assert.match(await fail(true), new RegExp(`${code}.*${WORDS}`));
      const closed = await fail(false);
      assert.doesNotMatch(closed, new RegExp(WORDS));
      assert.equal(closed.includes(code), isKnown, closed);
      assert.match(closed, /answered 403.*its answer is not shown/);
    });

  for (const line of [`{"error": "${WORDS}"}`, `220 ${WORDS}`, `{"offset": "${WORDS}"}`])
    it(`are not shown of a TCP peer that sends ${line}`, async () => {
      await using peer = await startTcpPeer({ onSocket: (socket) => void socket.resume().write(`${line}\n`) });
      const fail = (mayQuote: boolean) =>
        sendTcp(temp('a.img'), { port: peer.port, access: accessOf(mayQuote) }).then(
          () => assert.fail('it was sent'),
          (error: Error) => error.message,
        );
      assert.match(await fail(true), new RegExp(WORDS));
      const closed = await fail(false);
      assert.doesNotMatch(closed, new RegExp(WORDS));
      assert.match(closed, /its answer is not shown/);
    });
});

describe('whether words of a server may be shown', () => {
  const IN_POD: ClusterPlaces = { scope: 'External', networks: [], serviceHost: '10.96.0.1' };
  const rows: [address: string, mayQuote: boolean, cluster?: Partial<ClusterPlaces>, allow?: string[]][] = [
    ['203.0.113.7', true],
    ['2001:db8::1', true],
    ['10.1.2.3', false],
    ['172.31.0.1', false],
    ['192.168.1.1', false],
    ['100.64.0.1', false],
    ['fd00::1', false],
    ['::ffff:10.1.2.3', false],
    ['10.1.2.3', true, {}, ['10.1.0.0/16']],
    ['10.1.2.3', true, {}, ['nas.example']],
    ['10.1.2.3', false, {}, ['other.example']],
    ['10.1.2.3', true, { networks: ['10.96.0.0/12'] }],
    ['10.1.2.3', true, { scope: 'Cluster' }],
    ['10.1.2.3', true, { serviceHost: undefined }],
  ];
  for (const [address, mayQuote, cluster = {}, allow = []] of rows)
    it(`is ${mayQuote} for nas.example at ${address} with ${JSON.stringify(cluster)} and ${JSON.stringify(allow)} allowed`, () => {
      const policy = createDestinationPolicy({ allow, deny: [], cluster: { ...IN_POD, ...cluster } });
      assert.equal(policy.mayQuote(address, 'nas.example'), mayQuote);
    });
});
