import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type net from 'node:net';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError, type ErrorCode } from '../../../../src/common/errors.ts';
import { createDestinationPolicy, createNetworkAccess } from '../../../../src/network/destination-policy.ts';
import type { Receipt, TransferContext } from '../../../../src/targets/contract.ts';
import { createTcpTarget, type TcpTargetOptions } from '../../../../src/targets/tcp/tcp-target.ts';
import { type ImageInProcess, NEVER, openImage } from '../../../helpers/image-in-process.ts';
import { resetSocket } from '../../../helpers/reset-socket.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { startTcpPeer, type TcpPeer, type TcpPeerOptions, takeAll, whenRead } from '../../../helpers/tcp-peer.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { transferContext } from '../../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;
const TAIL_BYTES = 2 * MIB;

describe('tcp target', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let expected: Buffer;
  let sha256: string;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('a.img'), 16 * MIB, [{ offsetBytes: 0, lengthBytes: 9 * MIB, content: 'random' }]));
    expected = Buffer.alloc(opened.image.sizeBytes);
    await opened.image.read(expected, 0, NEVER);
    sha256 = createHash('sha256').update(expected).digest('hex');
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  interface Sent {
    receipt?: Receipt;
    failure?: DiskliftError;
    peer: TcpPeer;
    progress: number[];
    tookMs: number;
  }

  type SendOptions = Partial<TcpTargetOptions> & { context?: Partial<TransferContext> };

  /** @param use looks at the peer while it is still there */
  async function send(
    peerOptions: TcpPeerOptions = {},
    { context = {}, ...options }: SendOptions = {},
    use: (peer: TcpPeer) => Promise<void> = async () => {},
  ): Promise<Sent> {
    await using peer = await startTcpPeer(peerOptions);
    const target = createTcpTarget({
      host: peer.host,
      port: peer.port,
      protocol: 'Raw',
      access: createNetworkAccess(),
      clock: systemClock,
      exportUid: 'uid-1',
      disk: 'a.img',
      ...options,
    });
    const progress: number[] = [];
    const startMs = performance.now();
    const full = transferContext({ progress: (bytes) => progress.push(bytes), seal: async () => ({ sha256 }), ...context });
    try {
      const receipt = await target.send(opened.image, full);
      const tookMs = performance.now() - startMs;
      await use(peer);
      return { receipt, peer, progress, tookMs };
    } catch (error) {
      assert.ok(error instanceof DiskliftError, String(error));
      assert.ok(!error.message.includes('\n'), error.message);
      const tookMs = performance.now() - startMs;
      await use(peer);
      return { failure: error, peer, progress, tookMs };
    }
  }

  function assertFailed({ failure }: Sent, code: ErrorCode, retryable: boolean, message: RegExp): void {
    assert.match(failure?.message ?? 'no failure', message);
    assert.deepEqual([failure?.code, failure?.retryable], [code, retryable], failure?.message);
  }

  describe('Raw', () => {
    it('sends the image, ends, and waits for the end of the peer', async () => {
      const { receipt, peer, progress } = await send();
      assert.ok(peer.received(0).equals(expected));
      assert.deepEqual(receipt, { location: `tcp://127.0.0.1:${peer.port}`, sizeBytes: expected.length, sha256, proof: 'close' });
      assert.deepEqual(
        progress,
        [...progress].sort((a, b) => a - b),
      );
      assert.equal(progress.at(-1), expected.length);
    });

    it('ignores the bytes that the peer sends', async () => {
      const { receipt } = await send({
        onSocket(socket) {
          const timer = setInterval(() => socket.write('x'.repeat(100_000)), 1);
          socket.resume().once('end', () => {
            clearInterval(timer);
            socket.end();
          });
        },
      });
      assert.equal(receipt?.proof, 'close');
    });

    it('has failed when the peer ends early, in order or not', async () => {
      const inOrder = await send({ onSocket: (socket) => whenRead(socket, 3 * MIB, () => socket.end()) });
      assertFailed(inOrder, 'DestinationUnreachable', true, /closed its side before it had the whole image$/);
      const reset = await send({ onSocket: (socket) => whenRead(socket, 3 * MIB, () => resetSocket(socket)) });
      assertFailed(reset, 'DestinationUnreachable', true, /: the connection was (reset|closed)$/);
    });

    it('has failed when the peer resets the connection after the last byte', async () => {
      const sent = await send({ onSocket: (socket) => void socket.resume().once('end', () => resetSocket(socket)) });
      assertFailed(sent, 'DestinationUnreachable', true, /: the connection was reset$/);
    });

    it('resets the connection when the seal breaks; the peer lacks the end, and sees no orderly close', async () => {
      const broken = new DiskliftError('SourceChanged', 'changed');
      const { failure, peer } = await send({}, { context: { seal: () => Promise.reject(broken) } }, async ({ ended }) =>
        assert.equal(await ended(0), 'ECONNRESET'),
      );
      assert.equal(failure, broken);
      const { length } = peer.received(0);
      assert.ok(length <= expected.length - TAIL_BYTES, `${length}`);
    });

    it('does not wait for ever', async () => {
      const stalled = await send({ onSocket: () => {} }, { limits: { idleMs: 200 } });
      assertFailed(stalled, 'DestinationUnreachable', true, /takes no more bytes \(waited 0 s\)$/);
      const open = await send({ onSocket: (socket) => void socket.resume() }, { limits: { answerMs: 200 } });
      assertFailed(open, 'DestinationUnreachable', true, /does not close the connection/);
    });
  });

  describe('Acknowledged', () => {
    /** Deviations of a test's receiver from the protocol. */
    interface Script {
      offset?: number;
      /** Instead of the line with the offset. */
      answer?: string;
      /** Instead of the right confirmation. */
      confirmation?: string;
      /** Behind the offset; by default the rest is read. */
      onBytes?(socket: net.Socket): void;
      onHello?(line: string): void;
      onVerdict?(line: string): void;
    }

    function receiver({ offset = 0, answer, confirmation, onBytes, onHello, onVerdict }: Script = {}): TcpPeerOptions {
      return {
        onSocket(socket) {
          let chunks: Buffer[] = [];
          let receivedBytes = 0;
          let state: 'hello' | 'bytes' | 'verdict' = 'hello';
          const next = (following: typeof state) => {
            chunks = [];
            receivedBytes = 0;
            state = following;
          };
          socket.on('data', (bytes: Buffer) => {
            chunks.push(bytes);
            receivedBytes += bytes.length;
            if (state === 'hello' && bytes.includes('\n')) {
              onHello?.(Buffer.concat(chunks).toString());
              next('bytes');
              socket.write(answer ?? `${JSON.stringify({ offset })}\n`);
              onBytes?.(socket);
            }
            if (state === 'bytes' && receivedBytes === expected.length - offset) {
              assert.ok(Buffer.concat(chunks).equals(expected.subarray(offset)));
              next('verdict');
              socket.write(confirmation ?? `${JSON.stringify({ size: expected.length, sha256 })}\n`);
            }
          });
          socket.once('end', () => {
            if (state === 'verdict' && receivedBytes > 0) onVerdict?.(Buffer.concat(chunks).toString());
            socket.end();
          });
          socket.resume();
        },
      };
    }

    const acknowledged = { protocol: 'Acknowledged' as const };

    it('sends its hello and the missing bytes, and compares the digests', async () => {
      const hellos: string[] = [];
      const { receipt, progress, peer } = await send(receiver({ onHello: (line) => hellos.push(line) }), acknowledged, async ({ ended }) =>
        assert.equal(await ended(0), 'end'),
      );
      assert.deepEqual(
        hellos.map((line) => JSON.parse(line)),
        [{ protocol: 'disklift/1', export: 'uid-1', disk: 'a.img', size: expected.length, fingerprint: opened.image.fingerprint }],
      );
      assert.deepEqual(receipt, { location: `tcp://127.0.0.1:${peer.port}`, sizeBytes: expected.length, sha256, proof: 'digest' });
      assert.equal(progress.at(-1), expected.length);
    });

    for (const [where, missingBytes] of [
      ['in the middle', 5 * MIB],
      ['among the last bytes', 1000],
      ['at the end', 0],
    ] as const)
      it(`resumes ${where}`, async () => {
        const offset = expected.length - missingBytes;
        // The one that has everything says so at once.
        const script =
          missingBytes === 0
            ? { answer: `${JSON.stringify({ offset })}\n${JSON.stringify({ size: offset, sha256 })}\n`, offset: -1 }
            : { offset };
        const { receipt, progress } = await send(receiver(script), acknowledged);
        assert.equal(receipt?.proof, 'digest');
        assert.deepEqual([progress[0], progress.at(-1)], [offset, expected.length]);
      });

    it('compares the count alone where no digest was asked for', async () => {
      const context = { seal: async () => ({}) };
      const { receipt } = await send(receiver(), { ...acknowledged, context });
      assert.deepEqual([receipt?.proof, receipt?.sha256], ['close', undefined]);
      const short = await send(receiver({ confirmation: `{"size":${expected.length - 1}}\n` }), { ...acknowledged, context });
      assertFailed(short, 'ChecksumMismatch', true, /the receiver has \d+ bytes of \d+$/);
    });

    it('has a receiver that has something else drop it', async () => {
      const verdicts: string[] = [];
      const wrong = `${JSON.stringify({ size: expected.length, sha256: '00'.repeat(32) })}\n`;
      const sent = await send(receiver({ confirmation: wrong, onVerdict: (line) => verdicts.push(line) }), acknowledged);
      assertFailed(sent, 'ChecksumMismatch', true, /the receiver has SHA-256 0{64}, and [0-9a-f]{64} was sent$/);
      assert.deepEqual(verdicts, ['{"discard":true}\n']);
    });

    for (const [how, onVerdict] of [
      ['keeps the connection open', () => {}],
      ['resets the connection', resetSocket],
    ] as const)
      it(`reports the mismatch at once when a receiver with other bytes ${how}`, async () => {
        const script = receiver({ confirmation: `${JSON.stringify({ size: expected.length, sha256: '00'.repeat(32) })}\n` });
        const verdicts: string[] = [];
        let heard = '';
        const peer: TcpPeerOptions = {
          onSocket(socket) {
            script.onSocket?.(socket);
            // The stand-in answers an end with an end; this receiver does not.
            socket.removeAllListeners('end').on('data', (bytes: Buffer) => {
              heard = (heard + bytes.toString('latin1')).slice(-100);
              if (!heard.endsWith('{"discard":true}\n')) return;
              verdicts.push('discard');
              onVerdict(socket);
            });
          },
        };
        const sent = await send(peer, acknowledged);
        assertFailed(sent, 'ChecksumMismatch', true, /the receiver has SHA-256 0{64}/);
        assert.deepEqual(verdicts, ['discard']);
        assert.ok(sent.tookMs < 3000, `${sent.tookMs} ms`);
      });

    it('does not take a confirmation without a digest for a proof', async () => {
      const verdicts: string[] = [];
      const script: Script = { confirmation: `{"size":${expected.length}}\n`, onVerdict: (line) => verdicts.push(line) };
      assertFailed(await send(receiver(script), acknowledged), 'DestinationRejected', false, /confirms without a sha256$/);
      // A failed export leaves no complete image behind.
      assert.deepEqual(verdicts, ['{"discard":true}\n']);
    });

    const nonsense: [answer: string, message: RegExp, retryable?: boolean][] = [
      ['{"offset":-1}\n', /claims to hold -1 of/],
      ['{"offset":1.5}\n', /claims to hold 1\.5 of/],
      ['{"offset":"0"}\n', /claims to hold "0" of/],
      ['{"offset":99999999999}\n', /claims to hold 99999999999 of/],
      ['{}\n', /claims to hold nothing of/],
      ['[]\n', /not a JSON object \(\[\]\)/],
      ['HTTP/1.1 400 Bad Request\r\n', /not a JSON object \(HTTP\/1.1 400 Bad Request\)/],
      ['{"error":"no\\nway"}\n', /the receiver refuses: no way$/],
      ['{"error":"busy","retryable":true}\n', /the receiver refuses: busy$/, true],
      ['{"error":"busy","retryable":"yes"}\n', /the receiver refuses: busy$/],
      [`${'x'.repeat(5000)}`, /sends more than the protocol allows/],
      ['{"offset":0}\n{}\n{}\n', /sends more than the protocol allows/],
    ];
    for (const [answer, message, retryable = false] of nonsense)
      it(`sends no byte to a receiver that answers ${answer.slice(0, 40).trim()}`, async () => {
        const sent = await send(receiver({ answer }), acknowledged);
        assertFailed(sent, 'DestinationRejected', retryable, message);
        assert.deepEqual(sent.progress, []);
      });

    it('reports at once a receiver that gives up in the middle', async () => {
      const script: Script = {
        onBytes(socket) {
          // Reads no more, as one whose disk is full.
          socket.pause();
          socket.end('{"error":"no space left","retryable":true}\n');
        },
      };
      const sent = await send(receiver(script), acknowledged);
      assertFailed(sent, 'DestinationRejected', true, /the receiver refuses: no space left$/);
      assert.ok(sent.tookMs < 1000, `${sent.tookMs} ms`);
    });

    it('does not accept a confirmation before the whole image was sent', async () => {
      const script: Script = {
        onBytes: (socket) => void socket.pause().write(`${JSON.stringify({ size: expected.length, sha256 })}\n`),
      };
      assertFailed(await send(receiver(script), acknowledged), 'DestinationRejected', true, /confirmed before it had the whole image$/);
    });

    it('has failed when the connection is lost at any moment', async () => {
      const whens: Record<string, TcpPeerOptions> = {
        'before the hello': { onSocket: (socket) => void socket.end() },
        'behind the hello': { onSocket: (socket) => whenRead(socket, 1, () => socket.end()) },
        'behind the offset': receiver({ onBytes: (socket) => void socket.end() }),
        'in the middle': receiver({ onBytes: (socket) => whenRead(socket, 3 * MIB, () => resetSocket(socket)) }),
        'instead of the confirmation': receiver({
          confirmation: '',
          onBytes: (socket) => whenRead(socket, expected.length, () => socket.end()),
        }),
      };
      for (const [when, peer] of Object.entries(whens)) {
        const { failure } = await send(peer, acknowledged);
        assert.deepEqual([failure?.code, failure?.retryable], ['DestinationUnreachable', true], `${when}: ${failure?.message}`);
      }
    });

    it('does not wait for ever', async () => {
      const deaf = await send({ onSocket: (socket) => void socket.resume() }, { ...acknowledged, limits: { helloMs: 100 } });
      assertFailed(deaf, 'DestinationUnreachable', true, /no answer to the hello \(waited/);
      const silent = await send(receiver({ confirmation: '' }), { ...acknowledged, limits: { answerMs: 100 } });
      assertFailed(silent, 'DestinationUnreachable', true, /no confirmation \(waited/);
    });

    it('holds the end back until the seal', async () => {
      const broken = new DiskliftError('SourceChanged', 'changed');
      let receivedBytes = 0;
      const script: Script = { onBytes: (socket) => void socket.on('data', (bytes: Buffer) => (receivedBytes += bytes.length)) };
      const { failure } = await send(
        receiver(script),
        { ...acknowledged, context: { seal: () => Promise.reject(broken) } },
        async ({ ended }) => assert.equal(await ended(0), 'ECONNRESET'),
      );
      assert.equal(failure, broken);
      assert.ok(receivedBytes <= expected.length - TAIL_BYTES, `${receivedBytes}`);
    });
  });

  const states: [name: string, peer: TcpPeerOptions, options: Partial<TcpTargetOptions>][] = [
    ['shakes hands over TLS', { onSocket: () => {} }, { tls: {} }],
    ['waits for the answer to its hello', { onSocket: (socket) => void socket.resume() }, { protocol: 'Acknowledged' }],
    ['is not read', { onSocket: () => {} }, {}],
    ['waits for the end of the peer', { onSocket: (socket) => void socket.resume() }, {}],
  ];
  for (const [name, peer, options] of states)
    it(`ends within a second when it is cancelled while it ${name}`, async () => {
      const cancel = new AbortController();
      const reason = new DiskliftError('Cancelled', 'enough');
      setTimeout(() => cancel.abort(reason), 150);
      const { failure, tookMs } = await send(peer, { ...options, context: { signal: cancel.signal } });
      assert.equal(failure, reason);
      assert.ok(tookMs >= 100 && tookMs < 1000, `${tookMs} ms`);
    });

  it('ends within a second when it is cancelled while it connects', async () => {
    const cancel = new AbortController();
    setTimeout(() => cancel.abort(new DiskliftError('Cancelled', 'enough')), 150);
    // A name that is being resolved for ever.
    const access = { ...createNetworkAccess(), lookup: () => {} };
    const { failure, tookMs } = await send({}, { host: 'peer.example', access, context: { signal: cancel.signal } });
    assert.equal(failure?.code, 'Cancelled');
    assert.ok(tookMs < 1000, `${tookMs} ms`);
  });

  it('is unreachable when nobody listens, and when nobody answers in time', async () => {
    assertFailed(await send({}, { port: 1 }), 'DestinationUnreachable', true, /^tcp:\/\/127\.0\.0\.1:1: connection refused$/);
    const access = { ...createNetworkAccess(), lookup: () => {} };
    const late = await send({}, { host: 'peer.example', access, limits: { connectMs: 100 } });
    assertFailed(late, 'DestinationUnreachable', true, /^tcp:\/\/peer\.example:\d+: no connection \(waited/);
  });

  it('goes nowhere that the policy does not allow', async () => {
    let connections = 0;
    const peer: TcpPeerOptions = {
      onSocket(socket) {
        connections += 1;
        takeAll(socket);
      },
    };
    const access = createNetworkAccess(createDestinationPolicy({ allow: [], deny: [] }));
    for (const host of ['127.0.0.1', 'localhost', '::ffff:127.0.0.1'])
      assertFailed(await send(peer, { host, access }), 'DestinationNotAllowed', false, /./);
    assert.equal(connections, 0);
    // A name whose address has changed behind the check.
    const onlyTheSocket = { ...access, checkHost: () => {}, lookup: createNetworkAccess().lookup };
    const sent = await send({ onSocket: takeAll }, { access: onlyTheSocket });
    assertFailed(sent, 'DestinationNotAllowed', false, /./);
    assert.equal(sent.peer.received(0).length, 0);
  });

  it('has nothing to abandon', async () => {
    const target = createTcpTarget({
      host: '127.0.0.1',
      port: 1,
      protocol: 'Acknowledged',
      access: createNetworkAccess(),
      clock: systemClock,
      exportUid: 'u',
      disk: 'd',
    });
    await target.abandon({ id: '', partSizeBytes: 1, fingerprint: '' }, NEVER);
  });
});
