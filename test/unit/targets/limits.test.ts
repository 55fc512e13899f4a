/** Every limit of a destination fires when its time has passed: no earlier, and at most a tenth later. */

// Runs alone: its time limits must hold within a tenth.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net, { type AddressInfo, type Socket } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { systemClock } from '../../../src/common/clock.ts';
import { DiskliftError } from '../../../src/common/errors.ts';
import { createNetworkAccess, type NetworkAccess } from '../../../src/network/destination-policy.ts';
import type { ExportTarget } from '../../../src/targets/contract.ts';
import { createHttpTarget } from '../../../src/targets/http/http-target.ts';
import { createTcpTarget } from '../../../src/targets/tcp/tcp-target.ts';
import { runEngine } from '../../helpers/engine-run.ts';
import { type ImageInProcess, NEVER, openImage } from '../../helpers/image-in-process.ts';
import { s3Target } from '../../helpers/s3-export.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { transferContext } from '../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;
const LIMIT_MS = 4000;
/** For a busy machine. */
const BUSY_MS = 300;
const PATIENT_MS = 60_000;
const PATIENT: Record<LimitName | 'continueMs' | 'rateWindowMs' | 'minRateBytesPerSecond', number> = {
  connectMs: PATIENT_MS,
  continueMs: 1,
  helloMs: PATIENT_MS,
  idleMs: PATIENT_MS,
  answerMs: PATIENT_MS,
  rateWindowMs: PATIENT_MS,
  minRateBytesPerSecond: 0,
};

type LimitName = 'connectMs' | 'helloMs' | 'idleMs' | 'answerMs';

interface Peer {
  port: number;
  access: NetworkAccess;
  /**
   * When the last byte came that the peer has read, or the connection, or when its name was asked for. Undefined: when
   * the transfer began.
   */
  lastMs(): number | undefined;
}

interface Place extends Pick<Peer, 'port' | 'access'> {
  limits: typeof PATIENT;
}

const TARGETS: Record<string, (place: Place) => ExportTarget> = {
  HTTP: ({ port, ...rest }) => createHttpTarget({ url: `http://peer.example:${port}/a`, method: 'POST', clock: systemClock, ...rest }),
  HTTPS: ({ port, ...rest }) => createHttpTarget({ url: `https://peer.example:${port}/a`, method: 'PUT', clock: systemClock, ...rest }),
  'TCP Raw': (place) => tcpTarget('Raw', place),
  'TCP Acknowledged': (place) => tcpTarget('Acknowledged', place),
  S3: (place) => s3(place, MIB),
  'S3, one PutObject': (place) => s3(place, 64 * MIB),
};

function tcpTarget(protocol: 'Raw' | 'Acknowledged', { port, ...rest }: Place): ExportTarget {
  return createTcpTarget({ host: 'peer.example', port, protocol, exportUid: 'uid', disk: 'a.img', clock: systemClock, ...rest });
}

/** The tries within an attempt must not multiply a limit. */
function s3({ port, limits, access: through }: Place, partSizeBytes: number): ExportTarget {
  return s3Target({
    url: `http://peer.example:${port}`,
    options: { partSizeBytes, concurrency: 3, access: through },
    limits: {
      connectMs: limits.connectMs,
      silentMs: limits.idleMs,
      answerMs: limits.answerMs,
      tries: 4,
      backoffMs: 10,
      minPartBytes: 1,
      rateWindowMs: limits.rateWindowMs,
      minRateBytesPerSecond: limits.minRateBytesPerSecond,
    },
  });
}

/** Each case: the step that hangs, the targets, and the limit that ends it. */
const CASES: { hangs: string; limit: LimitName; targets: readonly string[]; start(stack: AsyncDisposableStack): Promise<Peer> }[] = [
  {
    hangs: 'the look-up of the name',
    limit: 'connectMs',
    targets: Object.keys(TARGETS),
    start: hangAtName,
  },
  {
    hangs: 'TLS',
    limit: 'connectMs',
    targets: ['HTTPS'],
    start: async (stack) => ({ ...(await listen(stack, () => {})), lastMs: () => undefined }),
  },
  {
    hangs: 'the answer to the hello',
    limit: 'helloMs',
    targets: ['TCP Acknowledged'],
    start: (stack) => listen(stack, (socket, onRead) => void socket.on('data', onRead)),
  },
  {
    hangs: 'the peer, which has taken the first bytes',
    limit: 'idleMs',
    targets: ['HTTP', 'TCP Raw', 'S3, one PutObject'],
    start: (stack) => listen(stack, (socket, onRead) => take(socket, 2 * MIB, onRead)),
  },
  {
    hangs: 'the peer, which has taken the first bytes of the image',
    limit: 'idleMs',
    targets: ['TCP Acknowledged'],
    start: (stack) =>
      listen(stack, (socket, onRead) => {
        socket.once('data', () => socket.write('{"offset":0}\n'));
        take(socket, 2 * MIB, onRead);
      }),
  },
  {
    hangs: 'the answer to the request that begins an upload',
    limit: 'idleMs',
    targets: ['S3'],
    start: (stack) => listen(stack, (socket, onRead) => void socket.on('data', onRead)),
  },
  {
    hangs: 'the peer, which takes no byte',
    limit: 'idleMs',
    targets: ['HTTP', 'TCP Raw'],
    start: (stack) => listen(stack, () => {}),
  },
  {
    hangs: 'the answer to the whole image',
    limit: 'answerMs',
    targets: ['HTTP', 'TCP Raw'],
    start: (stack) => listen(stack, (socket, onRead) => void socket.on('data', onRead)),
  },
];

/** Never finds the address of the peer. */
async function hangAtName(): Promise<Peer> {
  let askedMs: number | undefined;
  const resolve = () => {
    askedMs ??= performance.now();
  };
  return { port: 9, access: createNetworkAccess(undefined, resolve), lastMs: () => askedMs };
}

/** Reads so many bytes, and no more. */
function take(socket: Socket, sizeBytes: number, onRead: () => void): void {
  let leftBytes = sizeBytes;
  socket.on('data', (bytes: Buffer) => {
    onRead();
    leftBytes -= bytes.length;
    if (leftBytes <= 0) socket.pause();
  });
  socket.resume();
}

/** Reads so many bytes a second, in small pieces. */
function trickle(socket: Socket, bytesPerSecond: number): void {
  const timer = setInterval(() => socket.read(Math.min(socket.readableLength, bytesPerSecond / 50)), 20);
  socket.on('readable', () => {});
  socket.once('close', () => clearInterval(timer));
}

async function listen(stack: AsyncDisposableStack, onSocket: (socket: Socket, onRead: () => void) => void): Promise<Peer> {
  const sockets = new Set<Socket>();
  let lastMs: number | undefined;
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket.on('error', () => {}));
    // The other connections only ask whether the peer is still there.
    const isFirst = sockets.size === 1;
    const onRead = () => {
      if (isFirst) lastMs = performance.now();
    };
    onRead();
    onSocket(socket, onRead);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  stack.defer(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  const toLoopback = createNetworkAccess(undefined, (_host, options, callback) =>
    options.all ? callback(null, [{ address: '127.0.0.1', family: 4 }]) : callback(null, '127.0.0.1', 4),
  );
  return { port: (server.address() as AddressInfo).port, access: toLoopback, lastMs: () => lastMs };
}

describe('limits of destinations', function () {
  this.timeout(60_000);
  const stack = new AsyncDisposableStack();
  let opened: ImageInProcess;
  /** All at the same time, because each mostly waits. */
  const failures = new Map<string, Promise<{ failure: DiskliftError; tookMs: number }>>();

  before(async () => {
    // Loading it takes a part of the first limit.
    await import('@aws-sdk/client-s3');
    // More than the buffers of both kernels hold.
    const directory = await mkdtemp(path.join(os.tmpdir(), 'disklift-test-'));
    stack.defer(() => rm(directory, { recursive: true }));
    const disk = await createDisk(path.join(directory, 'a.img'), 48 * MIB, [{ offsetBytes: 0, lengthBytes: 32 * MIB, content: 'random' }]);
    opened = stack.use(await openImage(disk));
    for (const { hangs, limit, targets, start } of CASES)
      for (const name of targets) {
        const peer = await start(stack);
        const target = (TARGETS[name] ?? assert.fail(name))({ ...peer, limits: { ...PATIENT, [limit]: LIMIT_MS } });
        failures.set(`${name} ${hangs}`, failureOf(target, peer));
      }
    const hanging = await listen(stack, () => {});
    const createTarget = async () => (TARGETS.HTTP ?? assert.fail())({ ...hanging, limits: PATIENT });
    const startMs = performance.now();
    const ended = runEngine({ diskPath: disk, activeDeadlineSeconds: LIMIT_MS / 1000, createTarget });
    failures.set(
      'deadline',
      ended.then(({ failure = assert.fail() }) => ({ failure, tookMs: performance.now() - startMs })),
    );
  });
  after(() => stack.disposeAsync());

  /** Measures from the moment from which the peer hangs. */
  async function failureOf(target: ExportTarget, { lastMs }: Peer): Promise<{ failure: DiskliftError; tookMs: number }> {
    const startMs = performance.now();
    try {
      await target.send(opened.image, transferContext({ saveResume: async () => {} }));
    } catch (failure) {
      assert.ok(failure instanceof DiskliftError, String(failure));
      return { failure, tookMs: performance.now() - (lastMs() ?? startMs) };
    }
    return assert.fail('it has succeeded');
  }

  for (const { hangs, limit, targets } of CASES)
    for (const name of targets)
      it(`${name}: ${limit} ends a transfer when ${hangs} hangs`, async () => {
        const { failure, tookMs } = await (failures.get(`${name} ${hangs}`) ?? assert.fail());
        assert.deepEqual([failure.code, failure.retryable], ['DestinationUnreachable', true], failure.message);
        assert.match(failure.message, /\(waited 4 s\)|the connection timed out/);
        assertInTime(tookMs, failure);
      });

  for (const [name, create] of Object.entries(TARGETS)) {
    const checking = async (connectMs: number, signal: AbortSignal) => {
      const target = create({ ...(await hangAtName()), limits: { ...PATIENT, connectMs } });
      const startMs = performance.now();
      const failure = await (target.check ?? assert.fail('there is no check'))(signal).catch((error: DiskliftError) => error);
      assert.ok(failure instanceof DiskliftError, 'it has passed');
      return { failure, tookMs: performance.now() - startMs };
    };

    it(`${name}: connectMs ends the check before the scan when the look-up of the name hangs`, async () => {
      const { failure, tookMs } = await checking(1000, NEVER);
      assert.deepEqual([failure.code, failure.retryable], ['DestinationUnreachable', true], failure.message);
      assert.ok(tookMs > 1000 - BUSY_MS && tookMs < 1100 + BUSY_MS, `${tookMs} ms`);
    });

    it(`${name}: a cancel ends the check within a second`, async () => {
      const cancel = new AbortController();
      setTimeout(() => cancel.abort(new DiskliftError('Cancelled', 'enough')), 300);
      const { failure, tookMs } = await checking(PATIENT_MS, cancel.signal);
      assert.equal(failure.code, 'Cancelled');
      assert.ok(tookMs < 1300, `${tookMs} ms`);
    });
  }

  for (const name of ['HTTP', 'TCP Raw', 'S3, one PutObject'])
    it(`${name}: the least rate ends a transfer to a peer that trickles`, async () => {
      await using peers = new AsyncDisposableStack();
      const peer = await listen(peers, (socket) => trickle(socket, 512 * 1024));
      const limits = { ...PATIENT, rateWindowMs: 1000, minRateBytesPerSecond: 4 * MIB };
      const { failure } = await failureOf((TARGETS[name] ?? assert.fail(name))({ ...peer, limits }), peer);
      assert.deepEqual([failure.code, failure.retryable], ['DestinationUnreachable', true]);
      assert.match(failure.message, /: takes bytes too slowly: .* in 1 s, which is \d+ B\/s; at least 4194304 B\/s are required/);
    });

  it('activeDeadlineSeconds ends an export when the peer hangs', async () => {
    const { failure, tookMs } = await (failures.get('deadline') ?? assert.fail());
    assert.equal(failure.code, 'DeadlineExceeded');
    assertInTime(tookMs, failure);
  });
});

function assertInTime(tookMs: number, { message }: DiskliftError): void {
  assert.ok(tookMs > LIMIT_MS - BUSY_MS && tookMs < 1.1 * LIMIT_MS + BUSY_MS, `${tookMs} ms: ${message}`);
}
