import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../../src/common/clock.ts';
import { createLimiter } from '../../../src/common/limiter.ts';
import { openVolumeDisk } from '../../../src/formats/open-volume-disk.ts';
import { type CallResult, type Libc, loadLibc } from '../../../src/native/libc.ts';
import { failsWith } from '../../helpers/failure.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const SECRET = 'what lies outside of the volume';
const INSIDE = 'what lies on the volume';

/** As on Linux before 5.6, and in sandboxes that do not know the call. */
function libcWithout(errno: 'ENOSYS' | 'EPERM'): Libc {
  return { ...(loadLibc() ?? assert.fail()), openat2: async (): Promise<CallResult> => ({ value: -1, errno }) };
}

const WAYS: Record<string, Libc | undefined> = {
  'by openat2': loadLibc(),
  'step by step': undefined,
  'step by step where openat2 is not known': libcWithout('ENOSYS'),
  'step by step where openat2 is forbidden': libcWithout('EPERM'),
};

describe('a disk on a volume', () => {
  const temp = useTempDir();
  const volume = () => temp('volume');
  beforeEach(() => {
    mkdirSync(temp('volume/vms/fedora'), { recursive: true });
    mkdirSync(temp('outside'));
    writeFileSync(temp('outside/disk.img'), SECRET);
    writeFileSync(temp('volume/vms/fedora/disk.img'), INSIDE);
  });

  const open = (libc: Libc | undefined, path: string, format = 'Auto') =>
    openVolumeDisk(
      { volumePath: volume(), path, format },
      { libc, readLimit: createLimiter(4), warn: assert.fail, clock: systemClock, signal: NEVER },
    );

  /** @returns what it holds */
  async function read(libc: Libc | undefined, path: string): Promise<string> {
    const source = await open(libc, path);
    try {
      const bytes = Buffer.alloc(source.sizeBytes);
      await source.read(bytes, 0, NEVER);
      return bytes.toString();
    } finally {
      await source.dispose();
    }
  }

  /** The files that this process has open beneath the test's directory. */
  const openNames = () =>
    readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/self/fd/${fd}`)].filter((name) => name.startsWith(temp('')));
      } catch {
        return [];
      }
    });

  it('is opened by openat2 where the kernel has it', async () => {
    const libc = loadLibc() ?? assert.fail();
    const results: CallResult[] = [];
    const watched: Libc = {
      ...libc,
      async openat2(...parameters) {
        const result = await libc.openat2(...parameters);
        results.push(result);
        return result;
      },
    };
    assert.equal(await read(watched, 'vms/fedora/disk.img'), INSIDE);
    assert.deepEqual(
      results.map(({ errno }) => errno),
      [undefined],
    );
  });

  for (const [way, libc] of Object.entries(WAYS))
    describe(`opened ${way}`, () => {
      it('lies beneath the volume, at any depth, with any name', async () => {
        assert.equal(await read(libc, 'vms/fedora/disk.img'), INSIDE);
        writeFileSync(temp('volume/größer als 1.img'), INSIDE);
        assert.equal(await read(libc, 'größer als 1.img'), INSIDE);
      });

      for (const path of ['', '/etc/hostname', '../outside/disk.img', 'vms/../../outside/disk.img', './x', 'a//b', '..', 'a\0b', 'a/'])
        it(`is not ${JSON.stringify(path)}`, async () => {
          await assert.rejects(open(libc, path), failsWith('InvalidRequest', /not a path beneath the volume/));
        });

      for (const [sentence, target, path] of [
        ['to a file outside', '../outside/disk.img', 'link'],
        ['to a file outside, absolute', '/etc/hostname', 'link'],
        ['to a device', '/dev/zero', 'link'],
        ['to a file inside', 'vms/fedora/disk.img', 'link'],
        ['to itself', 'link', 'link'],
        ['to a folder outside', '../outside', 'link/disk.img'],
        ['to the root of all', '/', 'link/etc/hostname'],
        ['to a folder inside', 'vms', 'link/fedora/disk.img'],
        ['to a descriptor of this process', '/proc/self/fd/0', 'link'],
      ] as const)
        it(`does not follow a link ${sentence}`, async () => {
          symlinkSync(target, temp('volume/link'));
          await assert.rejects(open(libc, path), failsWith('InvalidRequest', /link.*: is or lies behind a symbolic link/));
          assert.deepEqual(openNames(), []);
        });

      it('is a regular file, and no folder, socket or device', async () => {
        const server = net.createServer().listen(temp('volume/socket'));
        await once(server, 'listening');
        try {
          await assert.rejects(open(libc, 'vms'), failsWith('InvalidRequest', /vms: is a directory/));
          await assert.rejects(open(libc, 'socket'), failsWith('InvalidRequest', /is a socket/));
        } finally {
          server.close();
        }
      });

      it('is no device', async function () {
        if (process.getuid?.() !== 0) this.skip();
        for (const [name, kind, major, minor] of [
          ['zero', 'c', '1', '5'],
          ['loop', 'b', '7', '0'],
        ] as const) {
          await runCommand('mknod', [temp(`volume/${name}`), kind, major, minor]);
          await assert.rejects(open(libc, name), failsWith('InvalidRequest', /is a (character|block) device/));
        }
      });

      it('is no FIFO, and a FIFO is not opened, which would wake its writer', async () => {
        await runCommand('mkfifo', [temp('volume/fifo')]);
        const line = `echo ready; exec 3> '${temp('volume/fifo')}'; echo begun`;
        const writer = spawn('bash', ['-c', line], { stdio: ['ignore', 'pipe', 'inherit'] });
        let said = '';
        writer.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
        const ended = once(writer, 'exit');
        const isAsleep = () => readFileSync(`/proc/${writer.pid}/stat`, 'utf8').includes(') S ');
        while (said === '' || !isAsleep()) await sleep(20);
        try {
          for (let round = 0; round < 20; round++) await assert.rejects(open(libc, 'fifo'), failsWith('InvalidRequest', /is a FIFO/));
          assert.equal(said, 'ready\n');
        } finally {
          closeSync(openSync(temp('volume/fifo'), constants.O_RDONLY | constants.O_NONBLOCK));
          await ended;
        }
        assert.equal(said, 'ready\nbegun\n', 'and it had waited for a reader indeed');
      });

      it('is not found when it does not exist or lies beneath a file', async () => {
        await assert.rejects(open(libc, 'gone.img'), failsWith('SourceNotFound', /gone\.img: no such disk image/));
        await assert.rejects(open(libc, 'vms/fedora/disk.img/x'), failsWith('SourceNotFound', /no such disk image/));
        assert.deepEqual(openNames(), []);
      });

      it('is never outside of the volume while folders of its path are swapped for links all the time', async () => {
        mkdirSync(temp('volume/a'));
        writeFileSync(temp('volume/a/disk.img'), INSIDE);
        symlinkSync(temp('outside'), temp('volume/b'));
        const swap = `
          import { renameSync } from 'node:fs';
          process.chdir(process.argv[1]);
          const endMs = Date.now() + 1000;
          while (Date.now() < endMs)
            for (const [from, to] of [['a', 'c'], ['b', 'a'], ['a', 'b'], ['c', 'a']]) renameSync(from, to);`;
        const swapper = spawn(process.execPath, ['--input-type=module', '-e', swap, volume()], { stdio: ['ignore', 'inherit', 'inherit'] });
        let isOver = false;
        const ended = once(swapper, 'exit').then(([code]) => {
          isOver = true;
          assert.equal(code, 0);
        });
        const seen = new Map<string, number>();
        while (!isOver) {
          const outcome = await read(libc, 'a/disk.img').catch((error) => (error as { code: string }).code);
          seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
        }
        await ended;
        const known = [INSIDE, 'InvalidRequest', 'SourceNotFound'];
        assert.deepEqual(
          [...seen.keys()].filter((outcome) => !known.includes(outcome)),
          [],
        );
        for (const outcome of known.slice(0, 2)) assert.ok((seen.get(outcome) ?? 0) > 0, `the race was on: ${JSON.stringify([...seen])}`);
        assert.deepEqual(openNames(), []);
      });

      it('changes its identity when another file takes its name', async () => {
        const source = await open(libc, 'vms/fedora/disk.img');
        const identity = await source.identity();
        assert.deepEqual(await source.identity(), identity);
        writeFileSync(temp('volume/new'), INSIDE);
        renameSync(temp('volume/new'), temp('volume/vms/fedora/disk.img'));
        await assert.rejects(source.identity(), failsWith('SourceChanged', /another file/));
        await source.dispose();
        assert.deepEqual(openNames(), []);
      });
    });

  describe('with the format Auto', () => {
    const libc = loadLibc();
    const put = (name: string, content: string) => writeFileSync(temp(`volume/${name}`), content, 'latin1');

    it('is raw when it is named so', async () => {
      for (const name of ['a.img', 'b.raw', 'c']) {
        put(name, name);
        assert.equal(await read(libc, name), name);
      }
    });

    it('is raw as disk.img, whatever its guest has written into it', async () => {
      put('disk.img', 'QFI\xfb');
      assert.equal((await read(libc, 'disk.img')).slice(0, 3), 'QFI');
    });

    it('is refused when name and bytes contradict each other or QEMU cannot open it, and is raw when the request states that', async () => {
      put('a.qcow2', 'QFI\xfb');
      put('b.vhdx', 'b');
      put('c.img', 'QFI\xfb and more');
      for (const [name, message] of [
        ['a.qcow2', /a\.qcow2: /],
        ['b.vhdx', /named like a vhdx image/],
        ['c.img', /named like a raw disk/],
      ] as const) {
        await assert.rejects(open(libc, name), failsWith('FormatUnsupported', message));
        await (await open(libc, name, 'Raw')).dispose();
      }
      await assert.rejects(open(libc, 'a.qcow2', 'QCOW2'), failsWith('FormatUnsupported', /a\.qcow2: /));
      assert.deepEqual(openNames(), []);
    });
  });
});
