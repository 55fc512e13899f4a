import assert from 'node:assert/strict';
import https from 'node:https';
import tls from 'node:tls';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { createDestinationPolicy, createNetworkAccess } from '../../../../src/network/destination-policy.ts';
import { createGuardedAgents } from '../../../../src/network/guarded-agent.ts';
import { createHttpTarget, type HttpTargetOptions } from '../../../../src/targets/http/http-target.ts';
import { type ForwardProxyOptions, startForwardProxy } from '../../../helpers/forward-proxy.ts';
import { startHttpSink } from '../../../helpers/http-sink.ts';
import { type ImageInProcess, NEVER, openImage } from '../../../helpers/image-in-process.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { createTestAuthority, type TestAuthority } from '../../../helpers/test-authority.ts';
import { transferContext } from '../../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;
const SECRET = 'hunter2';
/** No resolver knows it (RFC 6761), but the proxy does. */
const HIDDEN = 'sink.invalid';

describe('http target by a proxy', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let expected: Buffer;
  let authority: TestAuthority;
  let server: https.ServerOptions;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('a.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 5 * MIB, content: 'random' }]));
    expected = Buffer.alloc(opened.image.sizeBytes);
    await opened.image.read(expected, 0, NEVER);
    authority = await createTestAuthority(temp(''));
    const { certificate: cert, key } = await authority.issue('sink', `DNS:${HIDDEN}`);
    server = { cert, key };
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  interface Setting extends Partial<HttpTargetOptions> {
    protocol?: 'http' | 'https';
    proxyOptions?: ForwardProxyOptions;
    /** Secrets in the proxy's URL. */
    user?: string;
    signal?: AbortSignal;
  }

  /** Sends to a sink that only the proxy can find. */
  async function send({ protocol = 'https', proxyOptions = {}, user = '', signal = NEVER, ...options }: Setting = {}) {
    await using sink = await startHttpSink(protocol === 'https' ? { tls: server } : {});
    await using proxy = await startForwardProxy(proxyOptions);
    const { port } = new URL(sink.url);
    const proxyUrl = proxy.url.replace('//', `//${user}`);
    const target = createHttpTarget({
      url: `${protocol}://${HIDDEN}:${port}/a.qcow2?token=${SECRET}`,
      method: 'PUT',
      headers: { Authorization: `Bearer ${SECRET}` },
      tls: { ca: authority.ca },
      access: createNetworkAccess(),
      proxy: { httpsProxy: proxyUrl, httpProxy: proxyUrl },
      clock: systemClock,
      ...options,
    });
    const failure = await target.send(opened.image, transferContext({ signal })).then(
      () => undefined,
      (error: unknown) => error,
    );
    assert.ok(failure === undefined || (failure instanceof DiskliftError && !failure.message.includes(SECRET)), String(failure));
    return { failure, body: [...sink.complete.values()][0], requests: sink.requests, asked: proxy.asked, headers: proxy.headers, port };
  }

  it('sends through a tunnel, in which the proxy sees nothing', async () => {
    const { failure, body, asked, headers, port } = await send();
    assert.equal(failure, undefined);
    assert.ok(body?.equals(expected));
    assert.deepEqual(asked, [`${HIDDEN}:${port}`]);
    assert.ok(!JSON.stringify(headers).includes(SECRET));
  });

  it('sends for http to the proxy itself, with the whole URL', async () => {
    const { failure, body, asked, requests, port } = await send({ protocol: 'http' });
    assert.equal(failure, undefined);
    assert.ok(body?.equals(expected));
    assert.deepEqual(asked, [`http://${HIDDEN}:${port}/a.qcow2?token=${SECRET}`]);
    assert.equal(requests[0]?.headers.host, `${HIDDEN}:${port}`);
  });

  it('reaches a proxy that wants TLS itself', async () => {
    const { certificate: cert, key } = await authority.issue('proxy', 'IP:127.0.0.1');
    const before = tls.getCACertificates('default');
    tls.setDefaultCACertificates([...before, authority.ca]);
    try {
      const { failure, body } = await send({ proxyOptions: { tls: { cert, key } } });
      assert.equal(failure, undefined);
      assert.ok(body?.equals(expected));
    } finally {
      tls.setDefaultCACertificates(before);
    }
  });

  for (const protocol of ['http', 'https'] as const)
    it(`names itself to the proxy where that asks, for ${protocol}`, async () => {
      const proxyOptions = { credentials: `user:${SECRET}` };
      const { failure, body, requests } = await send({ protocol, proxyOptions, user: `user:${SECRET}@` });
      assert.equal(failure, undefined);
      assert.ok(body?.equals(expected));
      assert.equal(requests[0]?.headers['proxy-authorization'], undefined);
      const wrong = await send({ protocol, proxyOptions, user: `user:${SECRET}er@` });
      assert.ok(wrong.failure instanceof DiskliftError);
      assert.deepEqual([wrong.failure.code, wrong.failure.retryable, wrong.requests.length], ['CredentialsInvalid', false, 0]);
    });

  it('reports the answer of the proxy', async () => {
    for (const [tunnelStatus, code, retryable] of [
      [403, 'DestinationRejected', false],
      [502, 'DestinationUnreachable', true],
    ] as const) {
      const { failure } = await send({ proxyOptions: { tunnelStatus } });
      assert.ok(failure instanceof DiskliftError);
      assert.deepEqual([failure.code, failure.retryable], [code, retryable]);
      assert.match(failure.message, new RegExp(`^the proxy 127\\.0\\.0\\.1:\\d+: answered ${tunnelStatus} when asked for ${HIDDEN}:`));
    }
    const { failure } = await send({ proxy: { httpsProxy: `http://user:${SECRET}@127.0.0.1:1` } });
    assert.match(String(failure), /the proxy 127\.0\.0\.1:1: connection refused/);
  });

  it('connects directly where NO_PROXY has the host', async () => {
    const { failure, asked } = await send({ proxy: { httpsProxy: 'http://127.0.0.1:1', noProxy: 'invalid' } });
    assert.match(String(failure), /the name has no address/);
    assert.deepEqual(asked, []);
  });

  it('ends within a second when it is cancelled while the proxy is silent', async () => {
    const cancel = new AbortController();
    setTimeout(() => cancel.abort(new DiskliftError('Cancelled', 'enough')), 100);
    const startMs = performance.now();
    const { failure } = await send({ proxyOptions: { tunnelStatus: 0 }, signal: cancel.signal });
    assert.equal((failure as DiskliftError).message, 'enough');
    assert.ok(performance.now() - startMs < 1100);
  });

  it('judges the destination by the policy, and not the proxy', async () => {
    const policy = createDestinationPolicy({ allow: [], deny: [] });
    const { failure, body } = await send({ access: createNetworkAccess(policy) });
    assert.equal(failure, undefined);
    assert.ok(body?.equals(expected));
    const bound = createNetworkAccess(policy, (_host, _options, callback) => callback(null, [{ address: '169.254.169.254', family: 4 }]));
    for (const [url, access] of [
      ['https://169.254.169.254/', createNetworkAccess(policy)],
      ['https://[::ffff:a9fe:a9fe]/', createNetworkAccess(policy)],
      ['https://metadata.google.internal/', createNetworkAccess(policy)],
      ['https://name.example/', bound],
      ['http://name.example/', bound],
    ] as const) {
      const denied = await send({ url, access });
      assert.ok(denied.failure instanceof DiskliftError);
      assert.deepEqual([denied.failure.code, denied.asked], ['DestinationNotAllowed', []], url);
    }
  });

  it('is a way for agents too', async () => {
    await using sink = await startHttpSink({ tls: server });
    await using proxy = await startForwardProxy();
    const { httpsAgent } = createGuardedAgents({
      access: createNetworkAccess(),
      tls: { ca: authority.ca },
      proxy: { httpsProxy: proxy.url },
    });
    const { port } = new URL(sink.url);
    const status = await new Promise((resolve, reject) => {
      https
        .get(`https://${HIDDEN}:${port}/`, { agent: httpsAgent }, (response) => resolve(response.resume().statusCode))
        .on('error', reject);
    });
    assert.equal(status, 201);
    assert.deepEqual(proxy.asked, [`${HIDDEN}:${port}`]);
  });
});
