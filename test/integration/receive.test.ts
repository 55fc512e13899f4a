/** `disklift receive` and the TCP target. In tests that kill one of them, each is a process of its own. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { appendFileSync, existsSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { DiskliftError } from '../../src/common/errors.ts';
import { readPartialState } from '../../src/targets/tcp/file-output.ts';
import { disklift } from '../helpers/disklift.ts';
import { type FaultProxy, startFaultProxy } from '../helpers/fault-proxy.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { type ReceiverProcess, startReceiver } from '../helpers/receiver-process.ts';
import { sendTcp } from '../helpers/send-tcp.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';

const MIB = 1024 * 1024;
const SENDER = path.join(import.meta.dirname, '..', 'fixtures', 'send-tcp.ts');

/** A receiver starts to flush its file after every 32 MiB; the duration depends on the disk. */
const CHECKPOINT_BYTES = 32 * MIB;

/** The hello and the bytes in TCP buffers are sent twice as well. */
const SLACK_BYTES = 16 * MIB;

describe('receive', () => {
  const temp = useTempDir();
  let disk: string;
  let file: string;
  beforeEach(async () => {
    disk = await createDisk(temp('a.img'), 16 * MIB, [
      { offsetBytes: 100_000, lengthBytes: 5 * MIB, content: 'random' },
      { offsetBytes: 12 * MIB, lengthBytes: MIB, content: 'random' },
    ]);
    file = temp('out.qcow2');
  });

  const receive = (...args: string[]) => startReceiver(['--output', file, ...args]);

  const failureOf = (sending: Promise<unknown>): Promise<DiskliftError> =>
    sending.then(
      () => assert.fail('it was sent'),
      (error: unknown) => (error instanceof DiskliftError ? error : Promise.reject(error)),
    );

  const sha256Of = (name: string) => createHash('sha256').update(readFileSync(name)).digest('hex');

  const isListening = (port: number) =>
    new Promise<boolean>((resolve) => {
      const socket = net.connect(port, '127.0.0.1', () => resolve(true));
      socket.on('error', () => resolve(false)).on('connect', () => socket.destroy());
    });

  /** Asserts that the receiver succeeds, that the image has the disk's content, and that no other file is left. */
  async function assertReceived(receiver: ReceiverProcess): Promise<void> {
    const { code, stdout, stderr } = await receiver.ended;
    assert.equal(code, 0, stderr);
    assert.deepEqual(JSON.parse(stdout.toString()), { size: statSync(file).size, sha256: sha256Of(file), file });
    await assertImageOf(file, disk);
    assert.deepEqual(
      readdirSync(path.dirname(file)).filter((name) => name.startsWith('out')),
      [path.basename(file)],
    );
  }

  const readDurableBytes = async () => (await readPartialState(`${file}.partial.json`))?.durableBytes ?? 0;

  it('accepts an image, prints its size and digest, and ends', async () => {
    await using receiver = await receive();
    const receipt = await sendTcp(disk, { port: receiver.port });
    assert.equal(receipt.proof, 'digest');
    await assertReceived(receiver);
    assert.equal(receipt.sha256, sha256Of(file));
    assert.match(receiver.stderr(), /^disklift: listening on 127\.0\.0\.1:\d+\n$/);
  });

  it('accepts raw bytes until the connection ends', async () => {
    await using receiver = await receive('--protocol', 'raw');
    assert.equal((await sendTcp(disk, { port: receiver.port, protocol: 'Raw' })).proof, 'close');
    await assertReceived(receiver);
  });

  it('writes to a pipe, and confirms the bytes that the pipe has accepted', async () => {
    await using receiver = await startReceiver(['--output', '-']);
    const receipt = await sendTcp(disk, { port: receiver.port });
    const { code, stdout } = await receiver.ended;
    assert.deepEqual([code, createHash('sha256').update(stdout).digest('hex')], [0, receipt.sha256]);
    writeFileSync(file, stdout);
    await assertImageOf(file, disk);
  });

  it('cannot start again in a pipe', async () => {
    await using receiver = await startReceiver(['--output', '-']);
    await using proxy = await startFaultProxy(receiver.port, { kind: 'reset', direction: 'toServer', atByte: 3 * MIB });
    await failureOf(sendTcp(disk, { port: proxy.port }));
    const { code, stderr } = await receiver.ended;
    assert.equal(code, 1);
    assert.match(stderr, /^disklift: the output holds only the first \d+ bytes of an image$/m);
  });

  it('listens on IPv6, and on all addresses', async () => {
    await using six = await startReceiver(['--output', file], '[::1]:0');
    assert.match(six.address, /^\[::1\]:\d+$/);
    await sendTcp(disk, { host: '::1', port: six.port });
    await assertReceived(six);
    await using all = await startReceiver(['--output', temp('b.qcow2')], ':0');
    assert.equal((await sendTcp(disk, { port: all.port })).proof, 'digest');
  });

  describe('resumes', () => {
    beforeEach(async () => {
      disk = await createDisk(temp('a.img'), 110 * MIB, [{ offsetBytes: 0, lengthBytes: 100 * MIB, content: 'random' }]);
    });

    /** Stalls the transfer through `proxy` after that many bytes. */
    const stopBehind = (proxy: FaultProxy, bytes: number) =>
      proxy.expect({ kind: 'stall', direction: 'toServer', atByte: bytes, everywhere: true });

    const passed = (proxy: FaultProxy, bytes: number) => until(`${bytes} bytes`, () => proxy.passed.toServer >= bytes);

    it('when the sender was killed: only the missing bytes are sent', async () => {
      await using receiver = await receive();
      await using proxy = await startFaultProxy(receiver.port);
      stopBehind(proxy, 60 * MIB);
      const sender = spawn(process.execPath, [SENDER, disk, String(proxy.port)], { stdio: 'ignore' });
      await passed(proxy, 60 * MIB);
      sender.kill('SIGKILL');
      await once(sender, 'close');
      proxy.heal();
      const before = proxy.passed.toServer;
      const progress: number[] = [];
      await sendTcp(disk, { port: proxy.port, context: { progress: (bytes) => progress.push(bytes) } });
      await assertReceived(receiver);
      const sizeBytes = statSync(file).size;
      const againBytes = proxy.passed.toServer - before;
      assert.ok(before + againBytes < sizeBytes + SLACK_BYTES, `${before} and ${againBytes} of ${sizeBytes}`);
      assert.ok((progress[0] ?? 0) > 40 * MIB, `${progress[0]}`);
    });

    it('when it was killed itself: only bytes that were not on disk are sent again', async () => {
      let port: number;
      let durableBytes: number;
      {
        await using receiver = await receive();
        ({ port } = receiver);
        let sending: Promise<DiskliftError>;
        {
          // The sender fails when the proxy ends. A short idle limit would end it earlier on a slow machine.
          await using proxy = await startFaultProxy(port);
          stopBehind(proxy, 80 * MIB);
          sending = failureOf(sendTcp(disk, { port: proxy.port }));
          await passed(proxy, 80 * MIB);
          await until('the first bytes have reached the disk', async () => (await readDurableBytes()) >= CHECKPOINT_BYTES);
          receiver.kill('SIGKILL');
          await receiver.ended;
        }
        assert.equal((await sending).code, 'DestinationUnreachable');
        durableBytes = await readDurableBytes();
      }
      assert.ok(!existsSync(file));
      await using receiver = await startReceiver(['--output', file], `127.0.0.1:${port}`);
      await using proxy = await startFaultProxy(port);
      await sendTcp(disk, { port: proxy.port });
      await assertReceived(receiver);
      const leftBytes = statSync(file).size - durableBytes;
      assert.ok(proxy.passed.toServer < leftBytes + SLACK_BYTES, `${proxy.passed.toServer} of ${leftBytes}`);
    });

    it('when it was stopped in order: no received byte is sent again', async () => {
      let sentBytes: number;
      {
        await using receiver = await receive();
        let sending: Promise<DiskliftError>;
        {
          await using proxy = await startFaultProxy(receiver.port);
          stopBehind(proxy, 50 * MIB);
          sending = failureOf(sendTcp(disk, { port: proxy.port }));
          await passed(proxy, 50 * MIB);
          const startMs = performance.now();
          receiver.kill('SIGTERM');
          const { signal, stderr } = await receiver.ended;
          assert.ok(performance.now() - startMs < 1500);
          assert.deepEqual([signal, /cancelled by SIGTERM/.test(stderr)], ['SIGTERM', true]);
          sentBytes = proxy.passed.toServer;
        }
        await sending;
      }
      await using receiver = await receive();
      await using proxy = await startFaultProxy(receiver.port);
      await sendTcp(disk, { port: proxy.port });
      await assertReceived(receiver);
      assert.ok(sentBytes + proxy.passed.toServer < statSync(file).size + SLACK_BYTES, `${sentBytes} and ${proxy.passed.toServer}`);
    });

    it('not with a disk that has changed: the transfer starts again', async () => {
      await using receiver = await receive();
      await using proxy = await startFaultProxy(receiver.port);
      proxy.expect({ kind: 'reset', direction: 'toServer', atByte: 60 * MIB });
      await failureOf(sendTcp(disk, { port: proxy.port }));
      appendFileSync(disk, Buffer.alloc(MIB, 7));
      const progress: number[] = [];
      await sendTcp(disk, { port: receiver.port, context: { progress: (bytes) => progress.push(bytes) } });
      assert.ok((progress[0] ?? 0) <= 2 * MIB, `${progress[0]}`);
      await assertReceived(receiver);
    });

    it('not with a partial file that was changed: the digest differs, and the next attempt starts again', async () => {
      await using receiver = await receive();
      await using proxy = await startFaultProxy(receiver.port);
      proxy.expect({ kind: 'reset', direction: 'toServer', atByte: 60 * MIB });
      await failureOf(sendTcp(disk, { port: proxy.port }));
      await until('the rest is saved', () => /"durableBytes":[1-9]/.test(readFileSync(`${file}.partial.json`, 'utf8')));
      await until('the writer is gone', () => receiver.stderr().includes('reset'));
      const bytes = readFileSync(`${file}.partial`);
      bytes[30 * MIB] = (bytes[30 * MIB] ?? 0) ^ 1;
      writeFileSync(`${file}.partial`, bytes);
      assert.equal((await failureOf(sendTcp(disk, { port: receiver.port }))).code, 'ChecksumMismatch');
      await until('the wrong image is removed', () => !existsSync(file));
      await sendTcp(disk, { port: receiver.port });
      await assertReceived(receiver);
    });
  });

  it('repeats a receipt that the sender did not receive', async () => {
    await using receiver = await receive();
    await using proxy = await startFaultProxy(receiver.port);
    // In the middle of the confirmation.
    proxy.expect({ kind: 'reset', direction: 'toClient', atByte: '{"offset":0}\n{"size":'.length });
    assert.ok((await failureOf(sendTcp(disk, { port: proxy.port }))).retryable);
    await until('it is there', () => existsSync(file));
    const before = proxy.passed.toServer;
    assert.equal((await sendTcp(disk, { port: proxy.port })).proof, 'digest');
    assert.ok(proxy.passed.toServer - before < 1000, 'only a hello was sent');
    await assertReceived(receiver);
  });

  it('drops an image whose digest the sender rejects', async () => {
    await using receiver = await receive();
    assert.equal((await failureOf(sendTcp(disk, { port: receiver.port, wrongDigest: true }))).code, 'ChecksumMismatch');
    await until('it is removed', () => !existsSync(file));
    await sendTcp(disk, { port: receiver.port });
    await assertReceived(receiver);
  });

  it('is busy for other senders while it receives, but not for the same sender that reconnects', async () => {
    await using receiver = await receive();
    await using proxy = await startFaultProxy(receiver.port);
    proxy.expect({ kind: 'stall', direction: 'toServer', atByte: 3 * MIB });
    // Half open: the receiver cannot detect that this sender has ended.
    const cancelled = new AbortController();
    const first = failureOf(sendTcp(disk, { port: proxy.port, context: { signal: cancelled.signal } }));
    await until('it has begun', () => existsSync(`${file}.partial.json`));
    const other = await failureOf(sendTcp(disk, { port: receiver.port, exportUid: 'uid-2' }));
    assert.deepEqual([other.code, other.retryable], ['DestinationRejected', true]);
    assert.match(other.message, /the receiver refuses: busy: another image is being received$/);
    await sendTcp(disk, { port: receiver.port });
    await assertReceived(receiver);
    cancelled.abort(new DiskliftError('Cancelled', 'enough'));
    await first;
  });

  it('keeps listening after an image with --keep, and replaces it with --force', async () => {
    await using receiver = await receive('--keep');
    await sendTcp(disk, { port: receiver.port });
    const again = await failureOf(sendTcp(disk, { port: receiver.port, exportUid: 'uid-2' }));
    assert.deepEqual([again.code, again.retryable], ['DestinationRejected', false]);
    assert.match(again.message, /the output exists already$/);
    receiver.kill('SIGTERM');
    const { stdout } = await receiver.ended;
    assert.equal(stdout.toString().split('\n').length, 2);
    await using forced = await receive('--keep', '--force');
    for (const exportUid of ['uid-3', 'uid-4']) await sendTcp(disk, { port: forced.port, exportUid });
    forced.kill('SIGTERM');
    assert.equal((await forced.ended).stdout.toString().split('\n').length, 3);
    await assertImageOf(file, disk);
  });

  it('prints the line of a confirmed image after SIGTERM', async () => {
    await using receiver = await receive('--keep');
    const sender = net.connect({ port: receiver.port, host: '127.0.0.1', allowHalfOpen: true });
    const receives = async (end: string) => {
      for (let text = ''; !text.endsWith(end); ) text += String((await once(sender, 'data'))[0]);
    };
    sender.on('error', () => {});
    sender.write('{"protocol":"disklift/1","export":"u","disk":"d","size":4,"fingerprint":"f"}\n');
    await receives('{"offset":0}\n');
    sender.write('abcd');
    await receives('"}\n');
    receiver.kill('SIGTERM');
    await until('the receiver has taken the signal', async () => !(await isListening(receiver.port)));
    sender.end();
    const { signal, stdout } = await receiver.ended;
    assert.equal(signal, 'SIGTERM');
    assert.deepEqual(JSON.parse(stdout.toString()), { size: 4, sha256: sha256Of(file), file });
  });

  it('changes only its own files', async () => {
    writeFileSync(temp('victim'), 'precious');
    for (const name of ['NAME.partial', 'NAME.partial.json', '.NAME.partial.json.tmp'])
      symlinkSync(temp('victim'), path.join(path.dirname(file), name.replace('NAME', path.basename(file))));
    await using receiver = await receive();
    await sendTcp(disk, { port: receiver.port, disk: '../../etc/passwd', exportUid: '../x' });
    await assertReceived(receiver);
    assert.equal(readFileSync(temp('victim'), 'utf8'), 'precious');
  });

  const unusable: [args: string[], message: RegExp][] = [
    [['--listen', 'nowhere'], /It is not HOST:PORT/],
    [['--listen', '127.0.0.1:70000'], /It is not HOST:PORT/],
    [['--listen', '192.0.2.1:0'], /cannot listen on 192\.0\.2\.1:0: EADDRNOTAVAIL/],
    [['--output', '-', '--keep'], /--keep needs a file/],
    [['--output', '/dev/null', '--force'], /\/dev\/null: is not a regular file/],
    [['--tls-cert', '/nowhere.pem'], /needs both --tls-cert and --tls-key/],
    [['--tls-cert', '/nowhere.pem', '--tls-key', '/nowhere.pem'], /\/nowhere\.pem: cannot be read: ENOENT/],
    [['--tls-cert', '/etc/hostname', '--tls-key', '/etc/hostname'], /cannot listen on/],
  ];
  for (const [args, message] of unusable)
    it(`refuses ${args.join(' ')}`, async () => {
      const { code, stderr } = await disklift(['receive', '--listen', '127.0.0.1:0', '--output', file, ...args]);
      assert.equal(code, 2, stderr);
      assert.match(stderr, message);
      assert.equal(stderr.split('\n').length, 2, stderr);
    });

  it('does not replace a file', async () => {
    writeFileSync(file, 'precious');
    const { code, stderr } = await disklift(['receive', '--listen', '127.0.0.1:0', '--output', file]);
    assert.deepEqual([code, stderr], [2, `disklift: ${file}: exists; --force replaces it\n`]);
    assert.equal(readFileSync(file, 'utf8'), 'precious');
  });

  it('sends the reason to the sender when it cannot write, and ends', async () => {
    await using receiver = await startReceiver(['--output', temp('gone/out.qcow2')]);
    const failure = await failureOf(sendTcp(disk, { port: receiver.port }));
    assert.match(failure.message, /the receiver refuses: cannot open the output: ENOENT$/);
    const { code, stderr } = await receiver.ended;
    assert.equal(code, 1);
    assert.match(stderr, /cannot open the output: ENOENT/);
  });
});
