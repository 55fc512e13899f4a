/** Stalled readers of the change stream, such as a browser on a sleeping laptop, and responses that fail. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type Server } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createApp } from '../../../src/server/create-app.ts';
import type { Verdict } from '../../../src/server/require-token.ts';
import { type HttpApp, startHttpApp, statusOf, storedRequest } from '../../helpers/http-app.ts';
import { createManualClock, type ManualClock } from '../../helpers/manual-clock.ts';
import { until } from '../../helpers/until.ts';

describe('the change stream', () => {
  let clock: ManualClock;
  let verdict: Verdict;
  let app: HttpApp;
  let faults: unknown[];
  const onFault = (error: unknown) => void faults.push(error);

  beforeEach(async () => {
    clock = createManualClock();
    verdict = 'allowed';
    faults = [];
    app = await startHttpApp({ authorize: async () => verdict, changesClock: clock });
    for (let index = 0; index < 100; index += 1) {
      const status = statusOf('Streaming', { message: 'x'.repeat(2000) });
      app.registry.onRead(`vms/vm-${index}`, storedRequest(`vm-${index}`, status));
    }
  });
  afterEach(() => app[Symbol.asyncDispose]());

  /** Requests changes, and reads no more than the status line. */
  async function stall(): Promise<net.Socket> {
    const socket = net.connect(app.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write('GET /api/v1/changes HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer abc\r\n\r\n');
    const [bytes] = (await once(socket, 'data')) as [Buffer];
    socket.pause();
    assert.match(bytes.toString(), /^HTTP\/1\.1 200 /);
    return socket;
  }

  async function seconds(count: number, change: () => void = () => {}): Promise<void> {
    for (let second = 0; second < count; second += 1) {
      change();
      await clock.untilWaiting(1000);
      await clock.advance(1000);
    }
  }

  /** Changes each export, so that the next message has 200 KB. */
  function changeAll(): void {
    for (const key of app.registry.keys()) app.registry.onStatus(key, statusOf('Streaming', { message: 'y'.repeat(2000) }));
  }

  for (const end of ['unavailable', 'unknown'] as const)
    it(`writes nothing more to a stalled reader whose token is ${end}, and goes on with the others`, async () => {
      process.prependListener('uncaughtException', onFault);
      try {
        const socket = await stall();
        await seconds(10, changeAll);
        verdict = end;
        await seconds(21, changeAll);
        verdict = 'allowed';
        const abort = new AbortController();
        const reader = await app.get('/api/v1/changes', { headers: { authorization: 'Bearer abc' }, signal: abort.signal });
        await seconds(3, changeAll);
        await sleep(50);
        assert.deepEqual(faults, []);
        assert.equal(reader.status, 200);
        abort.abort();
        socket.destroy();
      } finally {
        process.off('uncaughtException', onFault);
      }
    });

  it('disconnects a stalled reader with 4 MiB of pending data', async () => {
    const socket = await stall();
    let isClosed = false;
    socket.once('close', () => {
      isClosed = true;
    });
    for (let second = 0; second < 60 && !isClosed; second += 1) {
      changeAll();
      await clock.advance(1000);
      await sleep(2);
    }
    socket.resume();
    await until('the end of the connection', () => isClosed);
    assert.ok(!clock.isAwaited(1000), 'nobody is left to be told');
  });
});

describe('the server of the sidecar', () => {
  const nothing = {
    metrics: { scrape: async () => assert.fail() },
    warn: assert.fail,
  };

  it('has neither the page nor the API when it is given no exports', async () => {
    const health = { liveness: () => ({ problem: undefined, facts: '' }), readiness: async () => undefined };
    const server = http.createServer(createApp({ ...nothing, health }));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const statusAt = async (place: string) => (await fetch(`http://127.0.0.1:${port}${place}`)).status;
    for (const place of ['/', '/page/page.js', '/api/v1/exports', '/api/v1/changes']) assert.equal(await statusAt(place), 404, place);
    assert.equal(await statusAt('/readyz'), 200);
    server.close();
    server.closeAllConnections();
  });

  it('closes the connection of a failed response, and keeps running', async () => {
    const health = { liveness: () => ({ problem: undefined, facts: '' }), readiness: async () => undefined };
    const app = createApp({ ...nothing, health });
    const server = http.createServer((request, response) => {
      app(request, response);
      response.once('finish', () => response.write('after the end'));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    for (let round = 0; round < 2; round += 1) assert.equal((await fetch(`http://127.0.0.1:${port}/livez`)).status, 200);
    server.close();
    server.closeAllConnections();
  });

  it('keeps running when a connection cannot be accepted, and logs that', async () => {
    const metrics = { scrape: async () => ({ contentType: 'text/plain', text: 'metrics' }) };
    await using app = await startHttpApp({ metrics });
    const servers = (process as unknown as { _getActiveHandles(): unknown[] })._getActiveHandles();
    const server = servers.find(
      (handle): handle is Server => handle instanceof http.Server && (handle.address() as AddressInfo)?.port === app.port,
    );
    assert.ok(server !== undefined);
    server.emit('error', Object.assign(new Error('accept EMFILE'), { code: 'EMFILE' }));
    assert.match(app.warnings.join(), /^a connection to 127\.0\.0\.1:0 cannot be accepted: EMFILE$/);
    assert.equal((await app.get('/metrics')).status, 200);
  });
});
