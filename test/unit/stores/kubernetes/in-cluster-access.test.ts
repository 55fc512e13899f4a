import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import { createRequire } from 'node:module';
import net, { type AddressInfo } from 'node:net';
import path from 'node:path';
import { systemClock } from '../../../../src/common/clock.ts';
import type { ApiAccess } from '../../../../src/stores/kubernetes/client/api-access.ts';
import { createInClusterAccess } from '../../../../src/stores/kubernetes/client/in-cluster-access.ts';
import { createKubeApi } from '../../../../src/stores/kubernetes/client/kube-api.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { createTestAuthority, type TestAuthority } from '../../../helpers/test-authority.ts';

const REVIEW = 'get secrets vms/login: the API server does not answer as it should:';

interface TlsServer extends AsyncDisposable {
  port: string;
  /** The authorization of each request. */
  tokens: (string | undefined)[];
  versions: Set<string>;
  connections: number;
}

/** Answers every request with an empty object, over HTTP/2 where the client asks for it. */
async function startTlsServer(authority: TestAuthority): Promise<TlsServer> {
  const { certificate, key } = await authority.issue('api', 'IP:127.0.0.1');
  const sockets = new Set<net.Socket>();
  const server = http2.createSecureServer({ cert: certificate, key, allowHTTP1: true }, (request, response) => {
    started.tokens.push(request.headers.authorization);
    started.versions.add(request.httpVersion);
    response.setHeader('content-type', 'application/json');
    response.end('{}');
  });
  server.on('secureConnection', (socket) => {
    started.connections += 1;
    sockets.add(socket);
  });
  server.on('sessionError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const started: TlsServer = {
    port: String((server.address() as AddressInfo).port),
    tokens: [],
    versions: new Set(),
    connections: 0,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return started;
}

describe('the access of a ServiceAccount', () => {
  const temp = useTempDir();
  let authority: TestAuthority;
  let access: ApiAccess | undefined;
  let timeMs: number;
  const clock = { monotonicMs: () => timeMs };

  beforeEach(async () => {
    timeMs = 0;
    mkdirSync(temp('authority'));
    mkdirSync(temp('account'));
    authority = await createTestAuthority(temp('authority'));
    mount('token', 'one\n');
    mount('ca.crt', authority.ca);
    mount('namespace', 'vms\n');
  });

  afterEach(async () => {
    await access?.close();
    access = undefined;
  });

  function mount(name: string, text: string): void {
    writeFileSync(temp(path.join('account', name)), text);
  }

  const open = (host: string | undefined, port: string | undefined) =>
    createInClusterAccess({ host, port, clock, directory: temp('account') });

  /** @returns a call, with the access that it goes through */
  function connect(port: string): () => Promise<unknown> {
    access = open('127.0.0.1', port);
    const api = createKubeApi({ access, clock: systemClock, userAgent: 'disklift/test' });
    return () => api.secrets.get({ namespace: 'vms', name: 'login' });
  }

  it('has the server of the environment and the namespace of the pod', () => {
    const { server, namespace } = open('10.0.0.1', '443');
    assert.deepEqual([server, namespace], ['https://10.0.0.1:443', 'vms']);
    assert.equal(open('fd00::1', '6443').server, 'https://[fd00::1]:6443');
    rmSync(temp('account/namespace'));
    assert.equal(open('10.0.0.1', '443').namespace, undefined);
  });

  it('refuses an environment without an API server, or with a port that has no TLS', () => {
    const refusal = (message: string) => ({ code: 'InvalidRequest', message: `the default kubeconfig: ${message}` });
    assert.throws(() => open(undefined, undefined), refusal('its current context names no API server'));
    for (const port of ['80', '8080', '8001']) assert.throws(() => open('10.0.0.1', port), refusal('its API server has no https'));
  });

  it('keeps its connections of HTTP/1.1, also to a server with HTTP/2', async () => {
    await using server = await startTlsServer(authority);
    const call = connect(server.port);
    for (let count = 0; count < 20; count += 1) await call();
    // The next request may begin before the connection of the last one is free again.
    assert.ok(server.connections <= 2, `${server.connections} connections`);
    assert.deepEqual([...server.versions], ['1.1']);
  });

  it('reads the token again after a minute, and keeps the connection', async () => {
    await using server = await startTlsServer(authority);
    const call = connect(server.port);
    await call();
    mount('token', 'two');
    timeMs += 59_000;
    await call();
    timeMs += 1000;
    await call();
    assert.deepEqual(server.tokens, ['Bearer one', 'Bearer one', 'Bearer two']);
    assert.equal(server.connections, 1);
  });

  it('uses the new authority one second after the file has changed', async () => {
    mkdirSync(temp('other'));
    const other = await createTestAuthority(temp('other'));
    await using server = await startTlsServer(other);
    const call = connect(server.port);
    await assert.rejects(call(), { code: 'StoreUnavailable', message: new RegExp(`^${REVIEW} .*certificate`) });
    mount('ca.crt', other.ca);
    timeMs += 999;
    await assert.rejects(call(), { code: 'StoreUnavailable' });
    timeMs += 1;
    await call();
    mount('ca.crt', authority.ca);
    timeMs += 1000;
    await assert.rejects(call(), { code: 'StoreUnavailable', message: new RegExp(`^${REVIEW} .*certificate`) });
  });

  it('trusts an authority that is not the root of its chain', async () => {
    mkdirSync(temp('subordinate'));
    const subordinate = await authority.subordinate(temp('subordinate'));
    mount('ca.crt', subordinate.ca);
    await using server = await startTlsServer(subordinate);
    await connect(server.port)();
  });

  it('opens new connections after reconnect', async () => {
    await using server = await startTlsServer(authority);
    const call = connect(server.port);
    await call();
    access?.reconnect();
    await call();
    assert.equal(server.connections, 2);
  });

  it('gives a server 4 s to accept a connection', async function () {
    this.timeout(10_000);
    const silent = net.createServer().listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const startMs = performance.now();
    await assert.rejects(connect(String((silent.address() as AddressInfo).port))(), {
      code: 'StoreUnavailable',
      message: new RegExp(`^${REVIEW} Connect Timeout Error`),
    });
    const tookMs = performance.now() - startMs;
    assert.ok(tookMs > 3500 && tookMs < 8000, `${tookMs} ms`);
    silent.close();
  });

  it('says that the server refuses connections', async () => {
    const closed = net.createServer().listen(0, '127.0.0.1');
    await once(closed, 'listening');
    const { port } = closed.address() as AddressInfo;
    await new Promise((resolve) => closed.close(resolve));
    await assert.rejects(connect(String(port))(), {
      code: 'StoreUnavailable',
      message: `${REVIEW} connect ECONNREFUSED 127.0.0.1:${port}`,
    });
  });

  for (const name of ['token', 'ca.crt'])
    it(`says that a file is missing: ${name}`, async () => {
      rmSync(temp(`account/${name}`));
      await assert.rejects(connect('1')(), {
        code: 'StoreUnavailable',
        message: `${REVIEW} ENOENT: no such file or directory, open '${temp(`account/${name}`)}'`,
      });
    });

  it('uses the copy of undici that client-node uses', () => {
    const require = createRequire(import.meta.url);
    const ofClientNode = createRequire(require.resolve('@kubernetes/client-node'));
    assert.equal(ofClientNode.resolve('undici'), require.resolve('undici'));
  });
});
