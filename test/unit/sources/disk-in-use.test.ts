/** Disks that others have open: with QEMU's own programs, on real files. */

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLimiter } from '../../../src/common/limiter.ts';
import { lockByte } from '../../../src/native/file-lock.ts';
import { type Libc, loadLibc } from '../../../src/native/libc.ts';
import type { DiskSource } from '../../../src/sources/contract.ts';
import type { InUse } from '../../../src/sources/disk-in-use.ts';
import { openDisk } from '../../../src/sources/open-disk.ts';
import { failsWith } from '../../helpers/failure.ts';
import { attachLoopDevice, requireLoopDevices } from '../../helpers/loop-device.ts';
import { openForWriting, tryToWrite } from '../../helpers/qemu-io.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

/**
 * Answers as a kernel without such locks on a file. Fails for any call except a reader's locks.
 */
function libcWithoutLocks(errno: string): Libc {
  return {
    ...(loadLibc() ?? assert.fail()),
    async fcntlLock(fd, command, lock) {
      assert.ok(fd > 2);
      assert.ok([36, 37].includes(command), `fcntl command ${command}`);
      assert.equal(lock.length, 1);
      assert.ok(lock.offset >= 100 && lock.offset <= 203 && lock.processId === 0);
      return { value: -1, errno, lock };
    },
  };
}

describe('a disk in use', () => {
  const temp = useTempDir();
  let disk: string;
  beforeEach(async () => {
    disk = await createDisk(temp('disk.img'), MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]);
  });

  const open = (inUse: InUse | undefined, libc: Libc | undefined = loadLibc(), name = disk): Promise<DiskSource> =>
    openDisk(name, { libc, readLimit: createLimiter(4), warn: () => {}, inUse });

  /** The locks on the disk, as `first-last` byte. */
  function locks(): string[] {
    const { ino } = statSync(disk);
    return readFileSync('/proc/locks', 'utf8')
      .split('\n')
      .filter((line) => line.split(' ').some((word) => word.endsWith(`:${ino}`)))
      .map((line) => line.split(' ').slice(-2).join('-'))
      .sort();
  }

  describe('by a writer', () => {
    for (const inUse of ['auto', 'wait', 'fail'] as const)
      it(`is refused with ${inUse}, and the writer is named; nothing is left of our own locks`, async () => {
        await using writer = await openForWriting(disk);
        const before = locks();
        await assert.rejects(open(inUse), (error) => {
          const named = `${disk}: is in use by qemu-io (pid ${writer.process.pid});`;
          return failsWith('SourceInUse', /stop its VM/)(error) && String(error).includes(named);
        });
        await assert.rejects(open(inUse), ({ retryable }) => retryable === (inUse === 'wait'));
        assert.deepEqual(locks(), before);
        await writer.quit();
        await (await open(inUse)).dispose();
        assert.deepEqual(locks(), []);
      });

    it('is read with allow, which takes no lock and is the default', async () => {
      for (const inUse of ['allow', undefined] as const) {
        await using writer = await openForWriting(disk);
        const source = await open(inUse);
        await writer.quit();
        assert.deepEqual(locks(), []);
        await source.dispose();
      }
    });

    it('is found by the locks of a qcow2 image that is being written to', async () => {
      const image = temp('disk.qcow2');
      execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1M']);
      await using _writer = await openForWriting(image, 'qcow2');
      await assert.rejects(open('fail', loadLibc(), image), failsWith('SourceInUse', /qemu-io/));
    });

    it('is found by the locks of a server that lets its clients write', async () => {
      const server = spawn('qemu-nbd', ['-f', 'raw', '-t', '-k', temp('socket'), disk], { stdio: 'inherit' });
      const exited = once(server, 'exit');
      while (!existsSync(temp('socket'))) await sleep(20);
      try {
        await assert.rejects(open('fail'), failsWith('SourceInUse', new RegExp(`is in use by qemu-nbd \\(pid ${server.pid}\\);`)));
      } finally {
        server.kill();
        await exited;
      }
    });

    it('is found by traditional locks, and by an exclusive lock', async () => {
      for (const [start, length, type] of [
        [101, 1, 'LOCK_SH'],
        [0, 0, 'LOCK_EX'],
      ]) {
        const program = `
import fcntl, sys
file = open(sys.argv[1], 'r+')
fcntl.lockf(file, fcntl.${type}, ${length}, ${start})
print('held', flush=True)
sys.stdin.read()`;
        const holder = spawn('python3', ['-c', program, disk], { stdio: ['pipe', 'pipe', 'inherit'] });
        await once(holder.stdout, 'data');
        await assert.rejects(open('fail'), failsWith('SourceInUse', new RegExp(`is in use by python3 \\(pid ${holder.pid}\\);`)));
        holder.stdin.end();
        await once(holder, 'exit');
      }
    });

    it('is found where no holder can be named', async () => {
      const libc = loadLibc() ?? assert.fail();
      const writer = openSync(disk, 'r+');
      await lockByte(libc, writer, 101);
      // Our own process is named as any other; a holder on another node has nothing in /proc.
      await assert.rejects(open('fail'), failsWith('SourceInUse', new RegExp(`pid ${process.pid}`)));
      const elsewhere: Libc = {
        ...libc,
        fcntlLock: async (fd, command, lock) =>
          command === 36 && lock.offset === 103
            ? { value: 0, lock: { ...lock, type: 0, processId: -1 } }
            : command === 36
              ? { value: 0, lock: { ...lock, type: 2 } }
              : libc.fcntlLock(fd, command, lock),
      };
      await assert.rejects(open('fail', elsewhere), failsWith('SourceInUse', /is in use by another process;/));
      closeSync(writer);
    });
  });

  describe('by us', () => {
    for (const inUse of ['auto', 'wait', 'fail'] as const)
      it(`has the locks of a reader with ${inUse}, for as long as it is open`, async () => {
        const source = await open(inUse);
        assert.deepEqual(locks(), ['100-100', '201-201', '203-203']);
        await source.dispose();
        assert.deepEqual(locks(), []);
      });

    it('is refused to a writing QEMU by its own locking', async () => {
      const before = readFileSync(disk);
      const source = await open('wait');
      const { isWritten, words } = await tryToWrite(disk);
      assert.ok(!isWritten);
      assert.match(words, /Failed to get "write" lock/);
      assert.ok(readFileSync(disk).equals(before));
      await source.dispose();
      assert.ok((await tryToWrite(disk)).isWritten);
    });

    it('is open to readers, and to any number of exports', async () => {
      const sources = [await open('wait'), await open('fail'), await open('auto')];
      for (const args of [
        ['compare', '-f', 'raw', '-F', 'raw', disk, disk],
        ['convert', '-f', 'raw', '-O', 'qcow2', disk, temp('copy.qcow2')],
      ]) {
        const { code, stderr } = await runCommand('qemu-img', args);
        assert.equal(code, 0, stderr);
      }
      const nbd = await runCommand('qemu-io', ['-r', '-f', 'raw', '-c', 'read 0 512', disk]);
      assert.equal(nbd.code, 0);
      await sources[0]?.dispose();
      assert.ok(!(await tryToWrite(disk)).isWritten, 'the others hold it still');
      for (const source of sources.slice(1)) await source.dispose();
      assert.ok((await tryToWrite(disk)).isWritten);
    });

    it('stays locked when another descriptor of the same file is closed', async () => {
      const source = await open('wait');
      closeSync(openSync(disk, 'r'));
      assert.ok(!(await tryToWrite(disk)).isWritten);
      await source.dispose();
    });

    it('is free when the process is killed', async () => {
      const program = `
        import { createLimiter } from '${path.resolve('src/common/limiter.ts')}';
        import { loadLibc } from '${path.resolve('src/native/libc.ts')}';
        import { openDisk } from '${path.resolve('src/sources/open-disk.ts')}';
        await openDisk(process.argv[1], { libc: loadLibc(), readLimit: createLimiter(4), warn() {}, inUse: 'wait' });
        console.log('open');
        setInterval(() => {}, 1000);`;
      const child = spawn(process.execPath, ['--input-type=module', '-e', program, disk], { stdio: ['ignore', 'pipe', 'inherit'] });
      await once(child.stdout, 'data');
      assert.ok(!(await tryToWrite(disk)).isWritten);
      child.kill('SIGKILL');
      await once(child, 'exit');
      assert.ok((await tryToWrite(disk)).isWritten);
    });
  });

  describe('without locks that prove anything', () => {
    for (const errno of ['ENOLCK', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EINVAL', 'EPERM', 'EACCES'])
      it(`because of ${errno} does not count as free`, async () => {
        for (const inUse of ['wait', 'fail'] as const)
          await assert.rejects(
            open(inUse, libcWithoutLocks(errno)),
            (error) =>
              failsWith('InUseUnknown', new RegExp(`no locks \\(${errno}\\).*inUse Allow`))(error) &&
              !(error as { retryable: boolean }).retryable,
          );
        for (const inUse of ['auto', 'allow'] as const) await (await open(inUse, libcWithoutLocks(errno))).dispose();
      });

    it('is free where other facts prove it, and the message gives the reason where they do not', async () => {
      const options = { libc: libcWithoutLocks('ENOLCK'), readLimit: createLimiter(4), warn: () => {}, inUse: 'wait' as const };
      await (await openDisk(disk, { ...options, writers: { isFree: true } })).dispose();
      const unknown = openDisk(disk, { ...options, writers: { isFree: false, why: 'nobody may list the pods' } });
      await assert.rejects(unknown, failsWith('InUseUnknown', /no locks \(ENOLCK\), and nobody may list the pods, so/));
    });

    it('leaves no lock where locks can be taken but not queried', async () => {
      const libc = loadLibc() ?? assert.fail();
      const half: Libc = {
        ...libc,
        fcntlLock: async (fd, command, lock) => (command === 36 ? { value: -1, errno: 'EINVAL', lock } : libc.fcntlLock(fd, command, lock)),
      };
      const source = await open('auto', half);
      assert.deepEqual(locks(), []);
      await source.dispose();
    });

    it('without koffi does not count as free', async () => {
      for (const inUse of ['wait', 'fail'] as const)
        await assert.rejects(
          openDisk(disk, { libc: undefined, readLimit: createLimiter(4), warn: () => {}, inUse }),
          failsWith('InUseUnknown', /koffi/),
        );
      await (await openDisk(disk, { libc: undefined, readLimit: createLimiter(4), warn: () => {}, inUse: 'auto' })).dispose();
    });

    it('on failing storage is a retryable error', async () => {
      await assert.rejects(
        open('wait', libcWithoutLocks('EIO')),
        (error) => failsWith('SourceReadError', /locks: EIO/)(error) && (error as { retryable: boolean }).retryable,
      );
    });

    describe('because it is a block device', () => {
      before(function () {
        return requireLoopDevices(this);
      });

      it('does not count as free, whatever locks it has', async () => {
        await using loop = await attachLoopDevice(disk);
        for (const inUse of ['wait', 'fail'] as const)
          await assert.rejects(open(inUse, loadLibc(), loop.path), failsWith('InUseUnknown', /block device has no locks.*inUse Allow/));
        for (const inUse of ['auto', 'allow'] as const) await (await open(inUse, loadLibc(), loop.path)).dispose();
      });
    });
  });
});
