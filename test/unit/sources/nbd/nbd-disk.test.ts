import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { systemClock } from '../../../../src/common/clock.ts';
import { openNbdDisk } from '../../../../src/sources/nbd/nbd-disk.ts';
import { NEVER } from '../../../helpers/image-in-process.ts';
import { CONTEXT, type NbdFakeOptions, type NbdRequest, startNbdFake } from '../../../helpers/nbd-fake.ts';
import { DONE, dataChunk, simpleReply, statusChunk } from '../../../helpers/nbd-replies.ts';
import { answerTruly, bytesOf, extentsOf, failedAt, SIZE_BYTES, TRUTH, withNbdFake } from '../../../helpers/nbd-scene.ts';
import { openNbd } from '../../../helpers/nbd-servers.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { createTestClock } from '../../../helpers/test-clock.ts';

const OFFSET = 8192;
const LENGTH = 4096;

describe('an NBD disk', () => {
  const temp = useTempDir();

  it('joins neighbours of one kind, and continues its query where the answer ended', () => {
    const [ZERO, HOLE] = [2, 1];
    const told = [
      [4096, ZERO, 4096, ZERO | HOLE],
      [4096, 0, 1, HOLE],
      [SIZE_BYTES - 12_289, 0x100],
    ];
    return withNbdFake(
      temp('nbd.sock'),
      { answer: ({ cookie }) => statusChunk(CONTEXT, told.shift() as number[], { cookie, flags: DONE }) },
      async (source, requests) => {
        assert.deepEqual(await extentsOf(source), [
          [0, 8192, 'zeros'],
          // A hole that does not read as zeros is data.
          [8192, SIZE_BYTES - 8192, 'data'],
        ]);
        assert.deepEqual(
          requests.map(({ offset, length }) => [offset, length]),
          [
            [0, SIZE_BYTES],
            [8192, SIZE_BYTES - 8192],
            [12_289, SIZE_BYTES - 12_289],
          ],
        );
      },
    );
  });

  it('takes pieces of several reads in any order', () => {
    const held: NbdRequest[] = [];
    const answer = (request: NbdRequest) => {
      held.push(request);
      if (held.length < 4) return undefined;
      const half = LENGTH / 2;
      const second = held.map((r) => dataChunk(r.offset + half, bytesOf(r).subarray(half), { cookie: r.cookie }));
      const first = held.map((r) => dataChunk(r.offset, bytesOf(r).subarray(0, half), { cookie: r.cookie, flags: DONE }));
      return Buffer.concat([...second.reverse(), ...first]);
    };
    return withNbdFake(temp('nbd.sock'), { answer }, async (source) => {
      const buffers = Array.from({ length: 4 }, () => Buffer.alloc(LENGTH));
      await Promise.all(buffers.map((buffer, index) => source.read(buffer, index * LENGTH, NEVER)));
      assert.ok(Buffer.concat(buffers).equals(TRUTH.subarray(0, 4 * LENGTH)));
    });
  });

  for (const structured of [true, false])
    it(`reads any range from a server that requires whole blocks, and few at once (structured: ${structured})`, () => {
      const answer = (request: NbdRequest) => (structured ? answerTruly(request) : simpleReply(0, request.cookie, bytesOf(request)));
      return withNbdFake(temp('nbd.sock'), { blockSizes: [4096, 4096, 8192], structured, answer }, async (source) => {
        for (const [start, end] of [
          [0, SIZE_BYTES],
          [1, 2],
          [4095, 4097],
          [5000, 40_000],
          [SIZE_BYTES - 1, SIZE_BYTES],
          [8192, 16_384],
        ] as const) {
          const buffer = Buffer.alloc(end - start, 0xff);
          await source.read(buffer, start, NEVER);
          assert.ok(buffer.equals(TRUTH.subarray(start, end)), `${start} to ${end}`);
        }
      });
    });

  it('is all data where the server reports no extents', async () => {
    const simply = (request: NbdRequest) => simpleReply(0, request.cookie, bytesOf(request));
    for (const options of [
      { allocation: false },
      { structured: false, answer: simply },
      { structured: false, knowsGo: false, answer: simply },
    ]) {
      await withNbdFake(temp('nbd.sock'), options, async (source) => {
        assert.deepEqual(await extentsOf(source), [[0, SIZE_BYTES, 'data']]);
        const buffer = Buffer.alloc(LENGTH);
        await source.read(buffer, OFFSET, NEVER);
        assert.ok(buffer.equals(TRUTH.subarray(OFFSET, OFFSET + LENGTH)));
      });
    }
  });

  it('has its size and its name as identity, which miss writes', () =>
    withNbdFake(temp('nbd.sock'), {}, async (source) => {
      assert.deepEqual(await source.identity(), { export: 'disk', size: `${SIZE_BYTES}` });
      assert.equal(source.identityMissesWrites, true);
    }));

  it('disconnects from the server', async () => {
    await using fake = await startNbdFake(temp('nbd.sock'), { sizeBytes: SIZE_BYTES, answer: answerTruly });
    const source = await openNbd(fake);
    await source.read(Buffer.alloc(LENGTH), OFFSET, NEVER);
    await source.dispose();
    await fake.left;
    assert.deepEqual(fake.requests.at(-1)?.type, 2);
    assert.deepEqual(fake.complaints, []);
    await assert.rejects(source.read(Buffer.alloc(LENGTH), OFFSET, NEVER), failedAt(OFFSET, /connection was closed/));
  });

  it('ends all reads when the server closes the connection in the middle', () => {
    let count = 0;
    const answer: NbdFakeOptions['answer'] = (request, socket) => {
      count += 1;
      if (count < 3) return undefined;
      socket.end(dataChunk(request.offset, bytesOf(request), { cookie: request.cookie, flags: DONE }).subarray(0, 1000));
      return undefined;
    };
    return withNbdFake(temp('nbd.sock'), { answer }, async (source) => {
      const reads = [0, 1, 2].map((index) => source.read(Buffer.alloc(LENGTH), index * LENGTH, NEVER));
      const checks = reads.map((read, index) => assert.rejects(read, failedAt(index * LENGTH, /closed the connection|reset/)));
      await Promise.all(checks);
    });
  });

  it('does not wait for ever for a server that is silent', async () => {
    await using fake = await startNbdFake(temp('nbd.sock'), { sizeBytes: SIZE_BYTES, answer: () => undefined });
    const source = await openNbd(fake, { silenceMs: 100 });
    const startMs = performance.now();
    await assert.rejects(source.read(Buffer.alloc(LENGTH), OFFSET, NEVER), failedAt(OFFSET, /no answer within 0.1 s$/));
    assert.ok(performance.now() - startMs >= 99);
    await source.dispose();
  });

  it('does not wait for ever for an answer that comes a byte at a time', async () => {
    const answer: NbdFakeOptions['answer'] = (request, socket) => {
      const bytes = dataChunk(request.offset, bytesOf(request), { cookie: request.cookie, flags: DONE });
      let at = 0;
      const timer = setInterval(() => socket.write(bytes.subarray(at, ++at)), 10);
      socket.on('close', () => clearInterval(timer));
      return undefined;
    };
    await using fake = await startNbdFake(temp('nbd.sock'), { sizeBytes: SIZE_BYTES, answer });
    const source = await openNbd(fake, { silenceMs: 60_000, answerMs: 300 });
    const startMs = performance.now();
    await assert.rejects(source.read(Buffer.alloc(LENGTH), OFFSET, NEVER), failedAt(OFFSET, /no whole answer within 0.3 s$/));
    assert.ok(performance.now() - startMs < 5000);
    await source.dispose();
  });

  it('does not wait for ever for the handshake', async () => {
    await using fake = await startNbdFake(temp('nbd.sock'), { sizeBytes: SIZE_BYTES });
    await assert.rejects(openNbdDisk(fake, { clock: createTestClock(), signal: NEVER }), {
      code: 'SourceReadError',
      message: `nbd+unix:///disk?socket=${fake.socketPath}: the server did not shake hands within 10 s`,
    });
  });

  it('is cancelled at once before the handshake has ended', async () => {
    const server = net.createServer().listen(temp('nbd.sock'));
    await once(server, 'listening');
    const controller = new AbortController();
    const opening = openNbdDisk({ socketPath: temp('nbd.sock'), exportName: '' }, { clock: systemClock, signal: controller.signal });
    const [socket] = (await once(server, 'connection')) as [net.Socket];
    controller.abort();
    await assert.rejects(opening, { code: 'Cancelled' });
    await once(socket.resume(), 'close');
    server.close();
  });

  it('cancels reads at once, also those that wait for a slot', async () => {
    await using fake = await startNbdFake(temp('nbd.sock'), { sizeBytes: SIZE_BYTES, answer: () => undefined });
    const source = await openNbd(fake);
    const [others, mine] = [new AbortController(), new AbortController()];
    const hanging = Array.from({ length: 16 }, () => source.read(Buffer.alloc(LENGTH), 0, others.signal));
    const waiting = source.read(Buffer.alloc(LENGTH), OFFSET, mine.signal);
    const startMs = performance.now();
    mine.abort();
    await assert.rejects(waiting, { code: 'Cancelled' });
    others.abort();
    for (const read of hanging) await assert.rejects(read, { code: 'Cancelled' });
    await source.dispose();
    assert.ok(performance.now() - startMs < 1000);
  });

  it('does not write to the buffer of a cancelled read, and serves the next read', () => {
    const held: NbdRequest[] = [];
    const answer = (request: NbdRequest) => {
      held.push(request);
      return held.length < 2 ? undefined : Buffer.concat(held.map(answerTruly));
    };
    return withNbdFake(temp('nbd.sock'), { answer }, async (source) => {
      const cancelled = Buffer.alloc(LENGTH, 0x11);
      const controller = new AbortController();
      const read = source.read(cancelled, OFFSET, controller.signal);
      controller.abort();
      await assert.rejects(read, { code: 'Cancelled' });
      const buffer = Buffer.alloc(LENGTH);
      await source.read(buffer, 0, NEVER);
      assert.ok(buffer.equals(TRUTH.subarray(0, LENGTH)));
      assert.ok(cancelled.every((byte) => byte === 0x11));
    });
  });
});
