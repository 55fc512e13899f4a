import assert from 'node:assert/strict';
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { DEFAULT_PACE, type PaceLimits, PaceWatch, takenBytes } from '../../../src/targets/pace-watch.ts';
import { createManualClock, type ManualClock } from '../../helpers/manual-clock.ts';
import { until } from '../../helpers/until.ts';

const LIMITS: PaceLimits = { idleMs: 120_000, minRateBytesPerSecond: 1024, rateWindowMs: 120_000 };

describe('pace of a transfer', () => {
  let clock: ManualClock;
  let watch: PaceWatch;
  let bytes: number;
  let moves: number;
  beforeEach(() => {
    clock = createManualClock();
    [bytes, moves] = [0, 0];
    start(LIMITS);
  });
  afterEach(() => watch.stop());

  function start(limits: PaceLimits): void {
    watch?.stop();
    const onMoved = () => {
      moves += 1;
    };
    watch = new PaceWatch({ where: 'https://peer.example/a', clock, limits, onMoved });
  }

  /** @returns the message of the failure */
  const failure = () => (watch.signal.aborted ? watch.signal.reason.message : undefined);

  /** Seconds in which the peer takes so many bytes each. */
  async function pass(seconds: number, bytesPerSecond: number): Promise<void> {
    for (let second = 0; second < seconds && failure() === undefined; second += 1) {
      bytes += bytesPerSecond;
      await clock.advance(1000);
    }
  }

  it('ends a transfer when the peer takes nothing, within 1 % of the limit', async () => {
    watch.open(() => bytes);
    await pass(50, 10_000_000);
    await pass(119, 0);
    assert.equal(failure(), undefined);
    await pass(2, 0);
    assert.equal(failure(), 'https://peer.example/a: takes no more bytes (waited 120 s)');
    assert.deepEqual([watch.signal.reason.code, watch.signal.reason.retryable], ['DestinationUnreachable', true]);
  });

  it('ends a transfer when the peer takes a byte a second, and reports the measured rate', async () => {
    watch.open(() => bytes);
    await pass(119, 1);
    assert.equal(failure(), undefined);
    await pass(2, 1);
    assert.equal(
      failure(),
      'https://peer.example/a: takes bytes too slowly: 120 B in 120 s, which is 1 B/s; at least 1024 B/s are required (minRateBytesPerSecond)',
    );
  });

  it('judges the last two minutes, not the whole transfer', async () => {
    watch.open(() => bytes);
    await pass(600, 1_000_000);
    await pass(118, 500);
    assert.equal(failure(), undefined);
    await pass(3, 500);
    assert.match(failure(), /too slowly/);
  });

  it('continues with a peer that is slow, or takes bytes in steps', async () => {
    watch.open(() => bytes);
    await pass(3600, 1100);
    for (let step = 0; step < 20; step += 1) {
      bytes += 200_000;
      await pass(110, 0);
    }
    assert.equal(failure(), undefined);
    assert.ok(moves > 3000, `${moves} moves`);
  });

  it('has no least rate where that is 0', async () => {
    start({ ...LIMITS, minRateBytesPerSecond: 0 });
    watch.open(() => bytes);
    await pass(3600, 1);
    assert.equal(failure(), undefined);
  });

  it('does not count time in which the program waits for itself', async () => {
    for (let round = 0; round < 20; round += 1) {
      const close = watch.open(() => bytes);
      await pass(1, 5000);
      close();
      await pass(3600, 0);
    }
    assert.equal(failure(), undefined);
  });

  it('counts the waits of one transfer together, and its connections', async () => {
    const others = [0, 0];
    const [first, second] = [watch.open(() => others[0] as number), watch.open(() => others[1] as number)];
    for (let minute = 0; minute < 10; minute += 1) {
      others[minute % 2] = (others[minute % 2] as number) + 10_000_000;
      await pass(60, 0);
    }
    first();
    second();
    assert.equal(failure(), undefined);
    // Two waits of a minute each, with a pause between them.
    for (let wait = 0; wait < 2; wait += 1) {
      const close = watch.open(() => 0);
      await pass(61, 0);
      close();
      await pass(600, 0);
    }
    assert.match(failure(), /takes no more bytes/);
  });

  it('does not take a process that was stopped for a slow peer', async () => {
    start({ ...LIMITS, idleMs: 20_000 });
    watch.open(() => bytes);
    await pass(5, 1_000_000);
    // The clock goes on for an hour, and no timer fires.
    const later = clock.monotonicMs() + 3_600_000;
    const monotonicMs = clock.monotonicMs;
    clock.monotonicMs = () => later;
    await clock.advance(1000);
    clock.monotonicMs = monotonicMs;
    assert.equal(failure(), undefined);
  });

  it('fails a write at once when a limit is exceeded', async () => {
    const writing = watch.during(
      () => new Promise(() => {}),
      () => bytes,
    );
    const failed = assert.rejects(writing, /takes no more bytes/);
    await pass(122, 0);
    await failed;
  });

  it('is never more impatient by default than the idle limit', () => {
    assert.ok(DEFAULT_PACE.rateWindowMs >= DEFAULT_PACE.idleMs);
    assert.equal(DEFAULT_PACE.minRateBytesPerSecond, 1024);
  });
});

describe('bytes that the kernel has taken', () => {
  it('grow while one write is under way', async () => {
    const sockets: Socket[] = [];
    const server = net.createServer({ pauseOnConnect: true }, (socket) => void sockets.push(socket));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const socket = net.connect((server.address() as AddressInfo).port, '127.0.0.1');
    await once(socket, 'connect');
    const sizeBytes = 64 * 1024 * 1024;
    const written = new Promise((resolve) => socket.write(Buffer.alloc(sizeBytes), resolve));
    await until('the buffers are full', () => takenBytes(socket) > 0);
    const first = takenBytes(socket);
    assert.ok(first < sizeBytes, `${first} bytes`);
    sockets[0]?.resume();
    await written;
    assert.equal(takenBytes(socket), sizeBytes);
    socket.destroy();
    assert.equal(takenBytes(socket), 0);
    server.close();
  });
});
