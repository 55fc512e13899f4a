import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { ImageOutput } from '../../../../src/targets/tcp/image-output.ts';
import { type ReceiverOptions, runReceiver } from '../../../../src/targets/tcp/receiver.ts';
import { resetSocket } from '../../../helpers/reset-socket.ts';

const HELLO = '{"protocol":"disklift/1","export":"u","disk":"d","size":4,"fingerprint":"f"}\n';
const RECEIVED = { sizeBytes: 4, sha256: 'ab'.repeat(32) };
const CONFIRMATION = `{"size":4,"sha256":"${RECEIVED.sha256}"}\n`;

/** An output whose results and delays a test chooses. */
class TestOutput implements ImageOutput {
  readonly calls: string[] = [];
  /** `finish` waits for this. */
  finishing: Promise<unknown> = Promise.resolve();
  failure: DiskliftError | undefined;
  async begin() {
    this.calls.push('begin');
    return 0;
  }
  async write(bytes: Uint8Array) {
    if (this.failure !== undefined) throw this.failure;
    this.calls.push(`write ${bytes.length}`);
  }
  async suspend() {
    this.calls.push('suspend');
  }
  async finish() {
    await this.finishing;
    this.calls.push('finish');
    return RECEIVED;
  }
  async discard() {
    this.calls.push('discard');
  }
}

describe('receiver', () => {
  let output: TestOutput;
  let stop: AbortController;
  let sockets: net.Socket[];
  let received: unknown[];
  let ended: Promise<unknown>;
  beforeEach(() => {
    output = new TestOutput();
    stop = new AbortController();
    sockets = [];
    received = [];
  });
  afterEach(async () => {
    stop.abort(new DiskliftError('Cancelled', 'the test is over'));
    for (const socket of sockets) socket.destroy();
    await ended;
  });

  /** @returns a function that connects a sender */
  async function start(options: Partial<ReceiverOptions> = {}): Promise<() => Sender> {
    const { promise: listening, resolve } = Promise.withResolvers<number>();
    const run = runReceiver({
      address: { host: '127.0.0.1', port: 0 },
      protocol: 'Acknowledged',
      output,
      keep: false,
      clock: systemClock,
      signal: stop.signal,
      onListening: ({ port }) => resolve(port),
      onReceived: (image) => received.push(image),
      warn: () => {},
      ...options,
    });
    ended = run.then(
      () => 'done',
      (error: unknown) => error,
    );
    const port = await listening;
    return () => {
      const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      sockets.push(socket);
      return new Sender(socket);
    };
  }

  class Sender {
    readonly socket: net.Socket;
    heard = '';
    hasEnded = false;
    constructor(socket: net.Socket) {
      this.socket = socket;
      socket.on('data', (bytes: Buffer) => {
        this.heard += bytes;
      });
      socket.once('end', () => {
        this.hasEnded = true;
      });
      socket.on('error', () => {});
    }
    async hears(text: string): Promise<void> {
      while (!this.heard.endsWith(text)) await once(this.socket, 'data');
      this.heard = '';
    }
    async sendAll(): Promise<void> {
      this.socket.write(HELLO);
      await this.hears('{"offset":0}\n');
      this.socket.write('abcd');
    }
  }

  it('does not end a raw connection before the image is in its place', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    output.finishing = promise;
    const sender = (await start({ protocol: 'Raw' }))();
    sender.socket.end('abcd');
    await sleep(100);
    assert.deepEqual([sender.hasEnded, received], [false, []]);
    resolve();
    await once(sender.socket, 'close');
    assert.deepEqual([sender.hasEnded, received], [true, [RECEIVED]]);
    assert.equal(await ended, 'done');
  });

  it('does not confirm before the image is in its place', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    output.finishing = promise;
    const sender = (await start())();
    await sender.sendAll();
    await sleep(100);
    assert.equal(sender.heard, '');
    resolve();
    await sender.hears(CONFIRMATION);
    // The sender may still disagree.
    assert.deepEqual(received, []);
    sender.socket.end();
    assert.equal(await ended, 'done');
    assert.deepEqual([received, output.calls], [[RECEIVED], ['begin', 'write 4', 'finish']]);
  });

  it('waits for a sender that was lost after the confirmation, and counts the image as accepted when it does not return', async () => {
    const sender = (await start({ limits: { returnMs: 150 } }))();
    await sender.sendAll();
    await sender.hears(CONFIRMATION);
    const startMs = performance.now();
    resetSocket(sender.socket);
    assert.equal(await ended, 'done');
    assert.ok(performance.now() - startMs > 120);
    assert.deepEqual(received, [RECEIVED]);
  });

  it('confirms once more to the sender that comes again, and drops what that disagrees with', async () => {
    const connect = await start();
    const lost = connect();
    await lost.sendAll();
    await lost.hears(CONFIRMATION);
    resetSocket(lost.socket);
    const again = connect();
    again.socket.write(HELLO);
    await again.hears(`{"offset":4}\n${CONFIRMATION}`);
    again.socket.end('{"discard":true}\n');
    await once(again.socket, 'close');
    assert.deepEqual([received, output.calls], [[], ['begin', 'write 4', 'finish', 'discard']]);
    const third = connect();
    await third.sendAll();
    await third.hears(CONFIRMATION);
    third.socket.end();
    assert.equal(await ended, 'done');
  });

  it('sends the reason why nothing can be written to the sender, and ends with that failure', async () => {
    output.failure = new DiskliftError('DestinationRejected', 'no space left', undefined, { retryable: true });
    const sender = (await start())();
    await sender.sendAll();
    await sender.hears('{"error":"no space left","retryable":true}\n');
    sender.socket.end();
    assert.equal(await ended, output.failure);
    assert.deepEqual(output.calls, ['begin', 'suspend']);
  });

  it('continues after such a failure with keep', async () => {
    output.failure = new DiskliftError('DestinationRejected', 'no space left', undefined, { retryable: true });
    const connect = await start({ keep: true });
    const first = connect();
    await first.sendAll();
    await first.hears('{"error":"no space left","retryable":true}\n');
    first.socket.destroy();
    output.failure = undefined;
    const second = connect();
    await second.sendAll();
    await second.hears(CONFIRMATION);
    second.socket.end();
    await once(second.socket, 'close');
    assert.deepEqual(received, [RECEIVED]);
  });

  it('gives up on a silent sender, before its hello and after it', async () => {
    const connect = await start({ limits: { helloMs: 100, idleMs: 100 } });
    const silent = connect();
    await silent.hears('{"error":"sends nothing (waited 0 s)","retryable":true}\n');
    const slow = connect();
    slow.socket.write(HELLO);
    await slow.hears('{"offset":0}\n');
    await slow.hears('{"error":"sends nothing (waited 0 s)","retryable":true}\n');
    assert.deepEqual(output.calls, ['begin', 'suspend']);
  });

  it('ends the connection after an internal failure', async () => {
    output.begin = () => Promise.reject(new TypeError('a mistake'));
    const sender = (await start())();
    const closed = new Promise((resolve) => sender.socket.once('close', () => resolve('closed')));
    sender.socket.write(HELLO);
    assert.ok((await ended) instanceof TypeError);
    assert.equal(await Promise.race([closed, sleep(1000)]), 'closed');
  });

  it('saves what it can within a second when it is stopped', async () => {
    const sender = (await start())();
    sender.socket.write(HELLO);
    await sender.hears('{"offset":0}\n');
    const startMs = performance.now();
    const reason = new DiskliftError('Cancelled', 'enough');
    stop.abort(reason);
    assert.equal(await ended, reason);
    assert.ok(performance.now() - startMs < 1000);
    assert.deepEqual(output.calls, ['begin', 'suspend']);
  });

  describe('stopped by a signal', () => {
    const reason = new DiskliftError('Cancelled', 'enough');

    async function sendUpToConfirmation(): Promise<Sender> {
      const sender = (await start({ keep: true }))();
      await sender.sendAll();
      await sender.hears(CONFIRMATION);
      return sender;
    }

    it('reports a confirmed image whose sender ends its side afterwards', async () => {
      const sender = await sendUpToConfirmation();
      stop.abort(reason);
      sender.socket.end();
      await once(sender.socket, 'close');
      assert.equal(await ended, reason);
      assert.deepEqual([received, sender.hasEnded], [[RECEIVED], true]);
    });

    it('reports a confirmed image within a second when its sender stays silent', async () => {
      await sendUpToConfirmation();
      const startMs = performance.now();
      stop.abort(reason);
      assert.equal(await ended, reason);
      assert.ok(performance.now() - startMs < 1000);
      assert.deepEqual(received, [RECEIVED]);
    });

    it('reports a confirmed image whose sender was lost before', async () => {
      const sender = await sendUpToConfirmation();
      resetSocket(sender.socket);
      await sleep(100);
      assert.deepEqual(received, []);
      stop.abort(reason);
      assert.equal(await ended, reason);
      assert.deepEqual(received, [RECEIVED]);
    });

    it('removes a confirmed image when the sender disagrees afterwards', async () => {
      const sender = await sendUpToConfirmation();
      stop.abort(reason);
      sender.socket.end('{"discard":true}\n');
      assert.equal(await ended, reason);
      assert.deepEqual([received, output.calls.at(-1)], [[], 'discard']);
    });

    for (const protocol of ['Acknowledged', 'Raw'] as const)
      it(`confirms and reports an image that is just being completed (${protocol})`, async () => {
        const { promise, resolve } = Promise.withResolvers<void>();
        const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
        output.finish = async () => {
          begin();
          await promise;
          return RECEIVED;
        };
        const sender = (await start({ protocol, keep: true }))();
        if (protocol === 'Raw') sender.socket.end('abcd');
        else await sender.sendAll();
        await begun;
        stop.abort(reason);
        await sleep(100);
        resolve();
        if (protocol === 'Acknowledged') {
          await sender.hears(CONFIRMATION);
          sender.socket.end();
        }
        await once(sender.socket, 'close');
        assert.equal(await ended, reason);
        assert.deepEqual([received, sender.hasEnded], [[RECEIVED], true]);
      });
  });
});
