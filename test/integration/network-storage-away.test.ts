/**
 * A hard NFS mount whose server disappears while a disk is read, and may come back. Runs in a guest of User Mode Linux.
 */

// Runs alone: it boots a guest of User Mode Linux, and measures how long commands last.

import assert from 'node:assert/strict';
import path from 'node:path';
import { stringify } from 'yaml';
import { diskliftLine } from '../helpers/disklift.ts';
import { diskExport } from '../helpers/manifest.ts';
import { assertGuestImage, atOtherClient, atServer, useNetworkMounts } from '../helpers/uml/network-mounts.ts';
import type { GuestProcess } from '../helpers/uml/uml-guest.ts';

const SINK = path.join(import.meta.dirname, '..', 'fixtures', 'pausing-sink.py');
const [STARTED, GO, IMAGE] = ['/run/started', '/run/go', '/run/out.qcow2'];

/** The limit is one second plus the delays of a busy machine. The NFS client itself waits longer than this. */
const MAX_END_MS = 4000;

describe('an NFS server that stops answering', function () {
  this.timeout(120_000);
  const guest = useNetworkMounts(['nfs']);
  // The test can disconnect the other client's network.
  const disk = atOtherClient('nfs-4.2', 'disk.img');
  const volume = path.dirname(disk);

  before(() => guest().start(`exec python3 ${SINK} ${STARTED} ${GO} ${IMAGE}`));
  beforeEach(() => guest().output(`rm -f ${STARTED} ${GO} ${IMAGE}; head -c 32M /dev/urandom > ${atServer('disk.img')} && sync`));
  afterEach(() => comeBack());

  /** Also drops the cached pages of the disk, because reading them needs no server. */
  async function goAway(): Promise<void> {
    await guest().output('ip link set server down; echo 3 > /proc/sys/vm/drop_caches');
    // If disklift does not end, the server comes back, so that the test fails and does not hang.
    await guest().start('sleep 20 && ip link set server up');
  }
  const comeBack = () => guest().output(`pkill -xf 'sleep 20'; ip link set server up; touch ${GO}; ls ${volume} > /dev/null`);
  const untilStarted = () => guest().output(`until [ -e ${STARTED} ]; do sleep 0.05; done`);
  const drain = () => guest().output(`touch ${GO}; sleep 1`);

  /** Streams the disk to a reader that pauses after 4 MiB, as the sink does. */
  const startStream = () => {
    const reader = `(head -c 4M; touch ${STARTED}; until [ -e ${GO} ]; do sleep 0.05; done; cat) > ${IMAGE}`;
    return guest().start(`exec ${diskliftLine(['stream', disk])} > >(${reader})`);
  };

  async function writeRequest(file: string, spec: object): Promise<void> {
    const request = stringify(diskExport('e', { http: { url: 'http://127.0.0.1:8000/e' } }, { backoffLimit: 0, ...spec }));
    await guest().output(`cat > ${file}.new <<'END' && mv ${file}.new ${file}\n${request}END`);
  }

  async function startExport(spec: object = {}): Promise<GuestProcess> {
    await writeRequest('/run/request.yaml', spec);
    return guest().start(`exec ${diskliftLine(['export', '-f', '/run/request.yaml', '--volume', `claim=${volume}`])}`);
  }

  /** Asserts that SIGTERM ends the process in time, while the server does not answer. */
  async function assertEndsBySignal({ processId, ended }: GuestProcess) {
    await guest().output(`kill -TERM ${processId}`);
    return assertEnds(ended);
  }

  async function assertEnds<T>(ended: Promise<T>, limitMs = MAX_END_MS): Promise<T> {
    const begin = performance.now();
    const result = await ended;
    const tookMs = Math.round(performance.now() - begin);
    assert.ok(tookMs < limitMs, `${tookMs} ms`);
    return result;
  }

  it('does not keep a stream from ending by SIGTERM while the disk is opened', async () => {
    await goAway();
    const stream = await startStream();
    await guest().output('sleep 4');
    assert.equal((await assertEndsBySignal(stream)).code, 143);
  });

  it('does not keep a stream from ending by SIGTERM while the disk is read', async () => {
    const stream = await startStream();
    await untilStarted();
    await goAway();
    await drain();
    const { code, stderr } = await assertEndsBySignal(stream);
    assert.equal(code, 143);
    assert.match(stderr, /cancelled by SIGTERM/);
  });

  it('does not keep an export from ending by SIGTERM', async () => {
    const running = await startExport();
    await untilStarted();
    await goAway();
    await drain();
    const { code, stdout } = await assertEndsBySignal(running);
    assert.equal(code, 143);
    assert.match(stdout.toString(), /phase: Cancelled/);
  });

  it('does not keep an export from ending at its deadline', async () => {
    const running = await startExport({ activeDeadlineSeconds: 12 });
    await untilStarted();
    await goAway();
    await drain();
    const { code, stderr } = await assertEnds(running.ended, 12_000 + MAX_END_MS);
    assert.equal(code, 1);
    assert.match(stderr, /DeadlineExceeded/);
  });

  it('does not keep a cancelled export of a sidecar or the sidecar from ending', async () => {
    const listen = ['--listen-host', '127.0.0.1', '--listen-port', '0', '--allow-destination', '127.0.0.1'];
    await guest().output('mkdir -p /run/requests');
    await writeRequest('/run/requests/e.yaml', {});
    const sidecar = await guest().start(
      `exec ${diskliftLine(['sidecar', ...listen, '--requests', '/run/requests', '--volume', `claim=${volume}`])}`,
    );
    await untilStarted();
    await goAway();
    await drain();
    await writeRequest('/run/requests/e.yaml', { cancel: true });
    await assertEnds(guest().output('until grep -q "phase: Cancelled" /run/requests/e.status.yaml; do sleep 0.1; done'));
    assert.equal((await assertEndsBySignal(sidecar)).code, 0);
  });

  it('delays a stream, whose image is complete when the network is back', async () => {
    const stream = await startStream();
    await untilStarted();
    await goAway();
    await drain();
    await comeBack();
    const { code, stderr } = await stream.ended;
    assert.equal(code, 0, stderr);
    await assertGuestImage(guest(), IMAGE, 'disk.img');
  });

  it('gives no wrong image when it restarts and has lost the locks of its clients', async () => {
    const stream = await startStream();
    await untilStarted();
    await guest().output('rpc.nfsd 0; echo 3 > /proc/sys/vm/drop_caches');
    await drain();
    await guest().output('rpc.nfsd 4; echo Y > /proc/fs/nfsd/v4_end_grace');
    const { code, stderr } = await stream.ended;
    if (code === 0) await assertGuestImage(guest(), IMAGE, 'disk.img');
    else assert.match(stderr, /^disklift: \/run\/mnt\/nfs-4\.2-other\/disk\.img: [^\n]+\n$/m);
  });
});
