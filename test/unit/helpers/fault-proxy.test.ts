import assert from 'node:assert/strict';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Fault, startFaultProxy } from '../../helpers/fault-proxy.ts';

const MIB = 1024 * 1024;

/** Keeps what it gets, and sends it back when all of it is there. */
async function startEcho(): Promise<{ port: number; received: Buffer[]; ends: string[] } & AsyncDisposable> {
  const received: Buffer[] = [];
  const ends: string[] = [];
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const own: Buffer[] = [];
    socket.on('data', (chunk) => {
      received.push(chunk);
      own.push(chunk);
    });
    socket.on('end', () => {
      ends.push('end');
      socket.end(Buffer.concat(own));
    });
    socket.on('error', (error: NodeJS.ErrnoException) => ends.push(error.code ?? ''));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    received,
    ends,
    async [Symbol.asyncDispose]() {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface Exchange {
  echoed: Buffer;
  end: string;
  tookMs: number;
}

async function exchange(port: number, bytes: Buffer): Promise<Exchange> {
  const startMs = performance.now();
  const echoed: Buffer[] = [];
  let end = 'end';
  const socket = net.connect({ port, host: '127.0.0.1' });
  socket.on('data', (chunk) => echoed.push(chunk));
  socket.on('error', (error: NodeJS.ErrnoException) => {
    end = error.code ?? '';
  });
  socket.end(bytes);
  await new Promise((resolve) => socket.once('close', resolve));
  return { echoed: Buffer.concat(echoed), end, tookMs: performance.now() - startMs };
}

describe('fault proxy', () => {
  const bytes = Buffer.alloc(3 * MIB, 'disk');

  async function through(...faults: Fault[]): Promise<Exchange & { received: Buffer; ends: string[] }> {
    await using server = await startEcho();
    await using proxy = await startFaultProxy(server.port, ...faults);
    const result = await exchange(proxy.port, bytes);
    proxy.assertAllHappened();
    // The server receives the end in a later turn of the event loop.
    while (server.ends.length === 0) await sleep(1);
    return { ...result, received: Buffer.concat(server.received), ends: server.ends };
  }

  it('passes everything on when nothing was asked for', async () => {
    const { received, echoed, end } = await through();
    assert.ok(received.equals(bytes) && echoed.equals(bytes));
    assert.equal(end, 'end');
  });

  for (const atByte of [0, 1, MIB + 17, 3 * MIB - 1, 3 * MIB])
    it(`ends both ways behind byte ${atByte}`, async () => {
      const { received, ends } = await through({ kind: 'end', direction: 'toServer', atByte });
      assert.equal(received.length, atByte);
      assert.equal(ends[0], 'end');
    });

  it('resets both ways', async () => {
    const { received, ends, end } = await through({ kind: 'reset', direction: 'toServer', atByte: MIB });
    assert.ok(received.length <= MIB);
    assert.deepEqual([ends[0], end], ['ECONNRESET', 'ECONNRESET']);
  });

  it('cuts what comes back', async () => {
    const { echoed, end } = await through({ kind: 'end', direction: 'toClient', atByte: 100 });
    assert.deepEqual([echoed.length, end], [100, 'end']);
  });

  it('flips one bit', async () => {
    const { received } = await through({ kind: 'corrupt', direction: 'toServer', atByte: MIB });
    const damaged = Buffer.from(bytes);
    damaged[MIB] = (bytes[MIB] as number) ^ 0x10;
    assert.ok(received.equals(damaged));
  });

  it('stalls for a time', async () => {
    const { echoed, tookMs } = await through({ kind: 'stall', direction: 'toServer', atByte: MIB, forMs: 200 });
    assert.ok(echoed.equals(bytes));
    assert.ok(tookMs >= 200, `${tookMs} ms`);
  });

  it('slows down', async () => {
    const { echoed, tookMs } = await through({ kind: 'slow', direction: 'toServer', atByte: 2 * MIB, bytesPerSecond: 20 * MIB });
    assert.ok(echoed.equals(bytes));
    // One MiB to the server and three back.
    assert.ok(tookMs >= 195, `${tookMs} ms`);
  });

  it('counts the bytes of one connection, or of all', async () => {
    await using server = await startEcho();
    const faults: Fault[] = [
      { kind: 'reset', direction: 'toServer', connection: 1, atByte: MIB },
      { kind: 'reset', direction: 'toServer', atByte: 4.5 * MIB },
    ];
    await using proxy = await startFaultProxy(server.port, ...faults);
    const ends: string[] = [];
    for (let round = 0; round < 3; round += 1) ends.push((await exchange(proxy.port, bytes)).end);
    assert.deepEqual(ends, ['end', 'ECONNRESET', 'ECONNRESET']);
    assert.equal(proxy.passed.toServer, 4.5 * MIB);
    proxy.assertAllHappened();
  });

  it('takes the network away until it is healed', async () => {
    await using server = await startEcho();
    await using proxy = await startFaultProxy(server.port, { kind: 'reset', direction: 'toServer', atByte: MIB, everywhere: true });
    const ends = [(await exchange(proxy.port, bytes)).end, (await exchange(proxy.port, bytes)).end];
    proxy.heal();
    ends.push((await exchange(proxy.port, bytes)).end);
    assert.deepEqual(ends, ['ECONNRESET', 'ECONNRESET', 'end']);
  });

  it('tells of a fault that did not happen', async () => {
    await assert.rejects(through({ kind: 'end', direction: 'toServer', atByte: 4 * MIB }), /did not happen/);
    await through({ kind: 'end', direction: 'toServer', atByte: 4 * MIB, mayNotHappen: true });
  });
});
