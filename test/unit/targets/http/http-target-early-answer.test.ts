import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { formatBytes, KIB, MIB } from '../../../../src/common/bytes.ts';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { VirtualImage } from '../../../../src/image/contract.ts';
import { createNetworkAccess } from '../../../../src/network/destination-policy.ts';
import { createHttpTarget, type HttpTargetOptions } from '../../../../src/targets/http/http-target.ts';
import { type ImageInProcess, openImage } from '../../../helpers/image-in-process.ts';
import { resetSocket } from '../../../helpers/reset-socket.ts';
import { startRudeServer } from '../../../helpers/rude-server.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { createTestAuthority } from '../../../helpers/test-authority.ts';
import { transferContext } from '../../../helpers/transfer-context.ts';

const ROUNDS = 5;

const answerOf = (status: number) => `HTTP/1.1 ${status} Early\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfull`;

/** How a server leaves. Unread bytes turn the close of the first connection into a reset as well. */
const LEAVE: Record<string, (socket: Socket) => void> = {
  closes: (socket) => socket.destroy(),
  resets: resetSocket,
  'ends its side': (socket) => socket.end(),
};

describe('http target and a server that answers early and leaves', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('a.img'), 16 * MIB, [{ offsetBytes: 0, lengthBytes: 9 * MIB, content: 'random' }]));
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  async function send(url: string, { image = opened.image, ...options }: Partial<HttpTargetOptions> & { image?: VirtualImage } = {}) {
    const target = createHttpTarget({
      url,
      method: 'PUT',
      access: createNetworkAccess(),
      clock: systemClock,
      limits: { continueMs: 5 },
      ...options,
    });
    const progress: number[] = [];
    const failure = await target.send(image, transferContext({ progress: (bytes) => progress.push(bytes) })).then(
      () => assert.fail('no success'),
      (error: unknown) => error,
    );
    assert.ok(failure instanceof DiskliftError, String(failure));
    return { failure, progress };
  }

  for (const [how, leave] of Object.entries(LEAVE))
    for (const readBytes of [1, KIB, 300 * KIB, 3 * MIB, 8 * MIB])
      it(`receives 413 from one that ${how} after ${formatBytes(readBytes)}`, async () => {
        await using server = await startRudeServer({
          readBytes,
          onEnough(socket) {
            socket.write(answerOf(413));
            leave(socket);
          },
        });
        for (let round = 0; round < ROUNDS; round += 1) {
          const { failure } = await send(`${server.url}/x`);
          assert.match(failure.message, /answered 413: the image is too large/);
          assert.deepEqual([failure.code, failure.retryable], ['DestinationRejected', false]);
        }
      });

  /**
   * The image, of which the chunk `number` comes a moment before the server leaves: its write fails with the answer
   * unread.
   */
  function imageThatMeets(leaves: () => void, number: number): VirtualImage {
    let count = 0;
    return {
      ...opened.image,
      async *stream(range) {
        for await (const chunk of opened.image.stream(range)) {
          count += 1;
          if (count === number) setImmediate(leaves);
          yield chunk;
        }
      },
    };
  }

  for (const status of [413, 200])
    it(`receives ${status} although the write that meets the reset fails before it is read`, async () => {
      let peer: Socket | undefined;
      await using server = await startRudeServer({
        readBytes: KIB,
        onEnough(socket) {
          socket.resume();
          peer = socket;
        },
      });
      const image = imageThatMeets(() => {
        peer?.write(answerOf(status));
        if (peer) resetSocket(peer);
      }, 4);
      const { failure, progress } = await send(`${server.url}/x`, { image });
      assert.match(failure.message, status === 413 ? /answered 413/ : /answered 200 before it had the whole image/);
      assert.ok((progress.at(-1) ?? 0) < opened.image.sizeBytes);
    });

  it('does not take a success for the whole when the last bytes could not be written', async () => {
    let peer: Socket | undefined;
    await using server = await startRudeServer({
      readBytes: KIB,
      onEnough(socket) {
        socket.resume();
        peer = socket;
      },
    });
    const target = createHttpTarget({
      url: `${server.url}/x`,
      method: 'PUT',
      access: createNetworkAccess(),
      clock: systemClock,
      limits: { continueMs: 5 },
    });
    const seal = async () => {
      setImmediate(() => {
        peer?.write(answerOf(200));
        if (peer) resetSocket(peer);
      });
      return {};
    };
    const progress: number[] = [];
    await assert.rejects(
      target.send(opened.image, transferContext({ seal, progress: (bytes) => progress.push(bytes) })),
      (error: DiskliftError) => error.retryable && /answered 200 before it had the whole image/.test(error.message),
    );
    assert.ok((progress.at(-1) ?? 0) < opened.image.sizeBytes);
  });

  it('fails and may retry where TLS hides the answer, or receives the answer', async () => {
    const authority = await createTestAuthority(temp(''));
    const { certificate: cert, key } = await authority.issue('server', 'IP:127.0.0.1');
    for (const leave of [(socket: Socket) => socket.destroy(), (socket: Socket) => socket.end()]) {
      await using server = await startRudeServer({
        readBytes: 3 * MIB,
        onEnough(socket) {
          socket.write(answerOf(413));
          leave(socket);
        },
        tls: { cert, key },
      });
      for (let round = 0; round < ROUNDS; round += 1) {
        const { failure } = await send(`${server.url}/x`, { tls: { ca: authority.ca } });
        if (failure.code === 'DestinationUnreachable') assert.ok(failure.retryable, failure.message);
        else assert.match(failure.message, /answered 413/);
      }
    }
  });

  it('reports a connection that ends without an answer', async () => {
    for (const leave of Object.values(LEAVE)) {
      await using server = await startRudeServer({ readBytes: 3 * MIB, onEnough: leave });
      const { failure } = await send(`${server.url}/x`);
      assert.deepEqual([failure.code, failure.retryable], ['DestinationUnreachable', true]);
    }
  });
});
