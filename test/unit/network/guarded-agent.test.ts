import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import net, { type AddressInfo, type LookupFunction } from 'node:net';
import { DiskliftError } from '../../../src/common/errors.ts';
import {
  createDestinationPolicy,
  createNetworkAccess,
  type DestinationRules,
  type NetworkAccess,
} from '../../../src/network/destination-policy.ts';
import { createGuardedAgents, type GuardedAgentOptions } from '../../../src/network/guarded-agent.ts';
import { startHttpSink } from '../../helpers/http-sink.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { createTestAuthority } from '../../helpers/test-authority.ts';

const ANY = createNetworkAccess();
const RULES: DestinationRules = { allow: [], deny: [] };

/** Says for each question what comes next; the last for ever. */
function answering(...addresses: string[]): LookupFunction {
  return (_host, { all }, callback) => {
    const address = (addresses.length > 1 ? addresses.shift() : addresses[0]) ?? assert.fail();
    const family = net.isIP(address);
    if (all) callback(null, [{ address, family }]);
    else callback(null, address, family);
  };
}

/** @returns the status, or what the request fails with */
function get(url: string, options: GuardedAgentOptions & { agents?: ReturnType<typeof createGuardedAgents> }): Promise<number | Error> {
  const { httpAgent, httpsAgent } = options.agents ?? createGuardedAgents(options);
  return new Promise((resolve) => {
    const request = url.startsWith('https:') ? https.get(url, { agent: httpsAgent }) : http.get(url, { agent: httpAgent });
    request.on('error', resolve).on('response', (response) => response.resume().on('end', () => resolve(response.statusCode ?? 0)));
  });
}

function assertDenied(result: number | Error, what: RegExp): void {
  assert.ok(result instanceof DiskliftError, String(result));
  assert.deepEqual([result.code, result.retryable], ['DestinationNotAllowed', false]);
  assert.match(result.message, what);
}

describe('guarded agents', () => {
  const temp = useTempDir();

  /** A server that counts connections and keeps the requests that arrive through them. */
  async function startEar(): Promise<AsyncDisposable & { port: number; connections: number; heard: string; ended: Promise<unknown> }> {
    const server = net.createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const closed = Promise.withResolvers<void>();
    const ear = {
      port: (server.address() as AddressInfo).port,
      connections: 0,
      heard: '',
      ended: closed.promise as Promise<unknown>,
      async [Symbol.asyncDispose]() {
        await new Promise((resolve) => server.close(resolve));
      },
    };
    server.on('connection', (socket) => {
      ear.connections += 1;
      socket.on('data', (bytes: Buffer) => {
        ear.heard += bytes.toString('latin1');
      });
      socket.on('error', () => {}).on('close', () => closed.resolve());
    });
    return ear;
  }

  it('let requests through, and keep connections with keepAlive', async () => {
    const authority = await createTestAuthority(temp(''));
    const { certificate: cert, key } = await authority.issue('server', 'IP:127.0.0.1');
    for (const tls of [undefined, { cert, key }]) {
      const ports = new Set<number | undefined>();
      const onRequest: http.RequestListener = ({ socket }, response) => {
        ports.add(socket.remotePort);
        response.end();
      };
      await using sink = await startHttpSink({ onRequest, ...(tls === undefined ? {} : { tls }) });
      const agents = createGuardedAgents({ access: ANY, tls: { ca: authority.ca }, keepAlive: true });
      for (let round = 0; round < 3; round += 1) assert.equal(await get(sink.url, { access: ANY, agents }), 200);
      assert.equal(ports.size, 1);
      agents.httpAgent.destroy();
      agents.httpsAgent.destroy();
    }
  });

  it('refuse an address before a connection is made', async () => {
    await using ear = await startEar();
    const access = createNetworkAccess(createDestinationPolicy(RULES));
    for (const protocol of ['http', 'https'])
      assertDenied(await get(`${protocol}://127.0.0.1:${ear.port}/`, { access }), /^127\.0\.0\.1: the destination policy/);
    assert.equal(ear.connections, 0);
  });

  it('refuse a name that has a forbidden address, even one of several', async () => {
    await using ear = await startEar();
    const policy = createDestinationPolicy(RULES);
    const several: LookupFunction = (_host, _options, callback) =>
      callback(null, [
        { address: '192.0.2.1', family: 4 },
        { address: '127.0.0.1', family: 4 },
      ]);
    for (const resolve of [answering('127.0.0.1'), answering('::ffff:169.254.169.254'), several])
      assertDenied(await get(`http://name.example:${ear.port}/`, { access: createNetworkAccess(policy, resolve) }), /^name\.example \(/);
    assert.equal(ear.connections, 0);
  });

  it('judge a name anew for each connection: it may have been bound to another address', async () => {
    await using sink = await startHttpSink({ onRequest: (_request, response) => response.end() });
    const { port } = new URL(sink.url);
    const policy = createDestinationPolicy({ allow: ['127.0.0.1'], deny: ['127.0.0.2'] });
    const access = createNetworkAccess(policy, answering('127.0.0.1', '127.0.0.2'));
    assert.equal(await get(`http://name.example:${port}/`, { access }), 200);
    assertDenied(await get(`http://name.example:${port}/`, { access }), /^name\.example \(127\.0\.0\.2\)/);
  });

  for (const protocol of ['http', 'https'])
    it(`judge what ${protocol} is connected to, whatever the resolver has said, and send nothing`, async () => {
      await using ear = await startEar();
      const access: NetworkAccess = { ...createNetworkAccess(createDestinationPolicy(RULES)), lookup: answering('127.0.0.1') };
      assertDenied(await get(`${protocol}://name.example:${ear.port}/?secret`, { access }), /^name\.example \(127\.0\.0\.1\)/);
      await ear.ended;
      assert.deepEqual([ear.connections, ear.heard], [1, '']);
    });

  it('pass on why a connection was not made', async () => {
    const refused = await get('http://127.0.0.1:1/', { access: ANY });
    assert.equal((refused as NodeJS.ErrnoException).code, 'ECONNREFUSED');
  });

  it('end connections that are being made when they are destroyed', async () => {
    await using ear = await startEar();
    const agents = createGuardedAgents({ access: ANY });
    const pending = get(`https://127.0.0.1:${ear.port}/`, { access: ANY, agents });
    while (ear.heard === '') await new Promise((resolve) => setTimeout(resolve, 5));
    agents.httpsAgent.destroy();
    assert.match(String(await pending), /the agent was destroyed/);
    await ear.ended;
  });
});
