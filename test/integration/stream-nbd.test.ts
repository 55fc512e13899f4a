/** `disklift stream nbd...` end to end, with real servers that are slow, faulty, stopped and killed. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import net, { type AddressInfo } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { DiskSource } from '../../src/sources/contract.ts';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { NEVER } from '../helpers/image-in-process.ts';
import { openNbd, startNbdkit, startQemuNbd } from '../helpers/nbd-servers.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { type CommandResult, runCommand, runShell } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { stopProcess } from '../helpers/stop-process.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';

const MIB = 1024 * 1024;
const DISK_SIZE_BYTES = 64 * MIB;

describe('disklift stream nbd', () => {
  const temp = useTempDir();

  const createSource = () =>
    createDisk(temp('disk.img'), DISK_SIZE_BYTES, [
      { offsetBytes: 0, lengthBytes: 5 * MIB, content: 'random' },
      { offsetBytes: 20 * MIB + 512, lengthBytes: 3 * MIB, content: 'random' },
      { offsetBytes: 40 * MIB, lengthBytes: 4 * MIB, content: 'zeros' },
      { offsetBytes: 63 * MIB, lengthBytes: MIB, content: 'random' },
    ]);

  const stream = (uri: string, flags: readonly string[] = []): Promise<CommandResult> =>
    runShell(`${diskliftLine(['stream', uri, ...flags])} > '${temp('out.qcow2')}'`);

  function assertFailed({ code, stdout, stderr }: CommandResult, message: RegExp): void {
    assert.equal(code, 1, stderr);
    assert.equal(stdout.length, 0);
    assert.match(stderr, /^disklift: [^\n]+\n$/, 'one line');
    assert.match(stderr, message);
  }

  it('has the content of a qcow2 file that qemu-nbd serves, and the size that measure prints', async () => {
    const disk = await createSource();
    const { code, stderr } = await runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', disk, temp('disk.qcow2')]);
    assert.equal(code, 0, stderr);
    await using server = await startQemuNbd(temp('nbd.sock'), temp('disk.qcow2'), 'qcow2');
    for (const flags of [[], ['--zero-detection', 'extents', '--verify', 'never'], ['-c', '4K']]) {
      const result = await stream(server.uri, flags);
      assert.equal(result.code, 0, result.stderr);
      assert.equal(result.stderr, '');
      await assertImageOf(temp('out.qcow2'), disk);
      const measured = await disklift(['measure', server.uri, '--output', 'json', ...flags.filter((flag) => !/verify|never/.test(flag))]);
      assert.equal(measured.code, 0, measured.stderr);
      assert.equal(JSON.parse(measured.stdout.toString()).imageSizeBytes, (await stat(temp('out.qcow2'))).size);
    }
  });

  it('reads a disk of odd size over TCP from a server without structured replies', async () => {
    const disk = await createDisk(temp('disk.img'), 3 * MIB + 512 * 3, [{ offsetBytes: MIB, lengthBytes: MIB, content: 'random' }]);
    await using _server = await startNbdkit(temp('nbd.sock'), ['--no-sr', 'file', disk]);
    await using proxy = await startTcpProxy(temp('nbd.sock'));
    const result = await stream(proxy.uri);
    assert.equal(result.code, 0, result.stderr);
    await assertImageOf(temp('out.qcow2'), disk);
  });

  it('reads no hole', async () => {
    const args = ['--filter=error', 'memory', '1G', 'error-pread=EIO', 'error-pread-rate=100%'];
    await using server = await startNbdkit(temp('nbd.sock'), args);
    const result = await stream(server.uri);
    assert.equal(result.code, 0, result.stderr);
  });

  it('fails on a read error with its offset and no image', async () => {
    const disk = await createSource();
    // nbdkit's error filter cannot fail at one offset; its eval plugin can.
    const script = `if [ $4 -le ${21 * MIB} ] && [ $(( $4 + $3 )) -gt ${21 * MIB} ]; then echo "EIO sector is gone" >&2; exit 1; fi; dd if=${disk} bs=64K iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none`;
    await using server = await startNbdkit(temp('nbd.sock'), [
      'eval',
      `get_size=echo ${DISK_SIZE_BYTES}`,
      `pread=${script}`,
      'thread_model=echo parallel',
    ]);
    const result = await stream(server.uri);
    assertFailed(result, /^disklift: nbd\+unix:\S+: cannot read at offset \d+: EIO\b/);
    const offset = Number(/offset (\d+)/.exec(result.stderr)?.[1]);
    assert.ok(offset > 19 * MIB && offset <= 21 * MIB, `offset ${offset}`);
    assert.equal((await stat(temp('out.qcow2'))).size, 0);
  });

  it('fails on sporadic errors', async () => {
    await using server = await startNbdkit(temp('nbd.sock'), [
      '--filter=error',
      'pattern',
      '64M',
      'error-pread=EIO',
      'error-pread-rate=20%',
    ]);
    const result = await stream(server.uri);
    assertFailed(result, /: cannot read at offset \d+: EIO\b/);
    assert.equal((await stat(temp('out.qcow2'))).size, 0);
  });

  it('names the block status, not a read, when the server fails to report which parts are zeros', async () => {
    const flags = ['error-extents=EIO', 'error-extents-rate=100%'];
    await using server = await startNbdkit(temp('nbd.sock'), ['--filter=error', 'memory', '64M', ...flags]);
    const result = await stream(server.uri);
    assertFailed(result, /: cannot ask the server which parts are zeros \(block status\) at offset 0: EIO\b/);
    assert.equal((await stat(temp('out.qcow2'))).size, 0);
  });

  it('reads at least four times as fast with six reads in flight as with one, at 5 ms a request', async () => {
    await using server = await startNbdkit(temp('nbd.sock'), ['--filter=delay', 'pattern', '64M', 'rdelay=5ms']);
    const source = await openNbd(server);
    try {
      // The best of some rounds in turn, so that other work of the machine does not matter.
      let [oneAtATimeMs, atOnceMs] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
      for (let round = 0; round < 5; round += 1) {
        oneAtATimeMs = Math.min(oneAtATimeMs, await readAll(source, 1));
        atOnceMs = Math.min(atOnceMs, await readAll(source, 6));
      }
      assert.ok(oneAtATimeMs > 4 * atOnceMs, `${oneAtATimeMs} ms one at a time, ${atOnceMs} ms six at a time`);
    } finally {
      await source.dispose();
    }
  });

  it('fails with the offset when the server is killed in the middle', async () => {
    const options = ['--filter=log', '--filter=delay', 'pattern', '64M', 'rdelay=300ms', `logfile=${temp('log')}`];
    await using server = await startNbdkit(temp('nbd.sock'), options);
    const running = stream(server.uri);
    // The server logs a read before it delays it, and the scan takes several reads.
    await until('the server has a read to answer', () => existsSync(temp('log')) && /\bRead\b/.test(readFileSync(temp('log'), 'utf8')));
    server.process.kill('SIGKILL');
    assertFailed(await running, /: cannot read at offset \d+: (the server has closed the connection|the connection was reset)\n$/);
  });

  it('fails after the time limit when the server is stopped in the middle', async () => {
    await using server = await startNbdkit(temp('nbd.sock'), ['pattern', '64M']);
    // Long enough for a server on a busy machine to answer the first read.
    const source = await openNbd(server, { silenceMs: 2000 });
    try {
      await source.read(Buffer.alloc(MIB), 0, NEVER);
      await stopProcess(server.process.pid as number);
      await assert.rejects(source.read(Buffer.alloc(MIB), MIB, NEVER), {
        code: 'SourceReadError',
        message: `${source.name}: cannot read at offset ${MIB}: no answer within 2 s`,
      });
    } finally {
      await source.dispose();
    }
  });

  it('does not report a silent server when its own process was blocked', async () => {
    await using server = await startNbdkit(temp('nbd.sock'), ['pattern', '64M']);
    const source = await openNbd(server, { silenceMs: 1000 });
    try {
      const read = source.read(Buffer.alloc(MIB), 0, NEVER);
      await nextTurn();
      for (const endMs = performance.now() + 1500; performance.now() < endMs; );
      await read;
    } finally {
      await source.dispose();
    }
  });

  it('ends within a second when it is interrupted while the server is stopped', async () => {
    await using server = await startNbdkit(temp('nbd.sock'), ['--filter=delay', 'pattern', '64M', 'rdelay=300ms']);
    const line = `{ ${diskliftLine(['stream', server.uri])} > '${temp('out.qcow2')}' & pid=$!; sleep 1; kill -STOP ${server.process.pid}; sleep 0.5; kill -INT $pid; start=$(date +%s%N); wait $pid; echo "exit $? after $(( ($(date +%s%N) - start) / 1000000 )) ms" >&2; }`;
    const { stderr } = await runShell(`set -m; ${line}`);
    assert.match(stderr, /^disklift: cancelled by SIGINT$/m);
    const endedMs = Number(/^exit 130 after (\d+) ms$/m.exec(stderr)?.[1]);
    assert.ok(endedMs < 1000, stderr);
  });

  it('refuses URIs and flags that it does not support', async () => {
    const refused: [string[], number, RegExp][] = [
      [['nbds://127.0.0.1/disk'], 2, /nbds is not supported/],
      [['nbd+unix:///disk'], 2, /needs a socket/],
      [[`nbd+unix:///disk?socket=${temp('none.sock')}`], 1, /none\.sock: there is no such socket/],
      [['nbd://127.0.0.1:1/disk'], 1, /nbd:\/\/127\.0\.0\.1:1\/disk: connection refused/],
      [['nbd://127.0.0.1:1/disk', '--in-use', 'fail'], 1, /does not tell whether its disk is in use/],
      [['nbd://127.0.0.1:1/disk', '-d'], 2, /external data file \(-d, -R\) needs a disk in a file/],
    ];
    for (const [args, exitCode, message] of refused) {
      const result = await disklift(['stream', ...args]);
      assert.equal(result.code, exitCode, result.stderr);
      assert.equal(result.stdout.length, 0);
      assert.match(result.stderr, message);
      assert.match(result.stderr, /^disklift: [^\n]+\n$/, 'one line');
    }
  });

  it('names the export that the server does not have', async () => {
    const disk = await createSource();
    await using server = await startQemuNbd(temp('nbd.sock'), disk, 'raw');
    assertFailed(await stream(server.uri.replace('/disk?', '/other?')), /\/other\?socket=\S+: the server has no such export/);
  });
});

async function readAll(source: DiskSource, readsInFlight: number): Promise<number> {
  const startMs = performance.now();
  const offsets = Array.from({ length: 96 }, (_, index) => index * 4096).values();
  const work = async () => {
    for (const offset of offsets) await source.read(Buffer.alloc(4096), offset, NEVER);
  };
  await Promise.all(Array.from({ length: readsInFlight }, work));
  return performance.now() - startMs;
}

/** A server on a Unix socket, relayed over TCP, so that no other process can take its port before it is bound. */
async function startTcpProxy(socketPath: string) {
  const server = net.createServer((socket) => {
    const upstream = net.connect(socketPath);
    socket.pipe(upstream).pipe(socket);
    for (const end of [socket, upstream]) end.on('error', () => end.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    uri: `nbd://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}
