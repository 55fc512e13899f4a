/** Disks on file systems that keep holes, times and attributes in their own ways. */

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLimiter } from '../../src/common/limiter.ts';
import { loadLibc } from '../../src/native/libc.ts';
import { openDisk } from '../../src/sources/open-disk.ts';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { ONLY_DISK_BYTES, useFileSystem } from '../helpers/file-system.ts';
import { NEVER } from '../helpers/image-in-process.ts';
import { openAsRequested } from '../helpers/open-image.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { openForWriting } from '../helpers/qemu-io.ts';
import { runShell } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

async function shell(line: string): Promise<void> {
  const { code, stderr } = await runShell(line);
  assert.equal(code, 0, stderr);
}

/** Shell lines that make `$disk`. They do not sync: written bytes may have no place on the storage yet. */
const DISKS: Record<string, string> = {
  'with stretches that are allocated and never written':
    'fallocate -l 32M "$disk"; head -c 3M /dev/urandom | dd of="$disk" bs=1M seek=9 conv=notrunc status=none; printf x | dd of="$disk" bs=1 seek=20000001 conv=notrunc status=none',
  'that holds text, holes that were punched and zeros':
    'yes text | head -c 16M > "$disk"; truncate -s 24M "$disk"; fallocate -p -o 1M -l 3M "$disk"; fallocate -z -o 6M -l 1M "$disk"; head -c 1M /dev/zero | dd of="$disk" bs=1M seek=18 conv=notrunc status=none',
  'that shares its extents with another, but for what was written since':
    'truncate -s 32M "$disk.base"; head -c 4M /dev/urandom | dd of="$disk.base" bs=1M seek=2 conv=notrunc status=none; cp --reflink=always "$disk.base" "$disk"; head -c 70000 /dev/urandom | dd of="$disk" bs=1 seek=3M conv=notrunc status=none; fallocate -p -o 4M -l 1M "$disk"',
};

describe('a disk', function () {
  this.timeout(30_000);
  const temp = useTempDir();

  for (const name of ['xfs', 'btrfs that compresses'] as const)
    describe(`on ${name}`, () => {
      const { mounted } = useFileSystem(name);

      for (const [title, line] of Object.entries(DISKS))
        for (const detection of ['content', 'extents'])
          it(`${title} is streamed with the right content, by ${detection}, in the size that measure printed`, async () => {
            const path = mounted(`${detection}.img`);
            await shell(`rm -f '${path}'; disk='${path}'; ${line}`);
            const flags = ['--zero-detection', detection, path];
            const measured = await disklift(['measure', '--output', 'json', ...flags]);
            await shell(`${diskliftLine(['stream', ...flags])} | cat > '${temp('out.qcow2')}'`);
            await assertImageOf(temp('out.qcow2'), path);
            const { imageSizeBytes } = JSON.parse(measured.stdout.toString());
            await shell(`test $(stat -c %s '${temp('out.qcow2')}') = ${imageSizeBytes}`);
          });
    });

  interface WriteMeanwhile {
    offsets?: readonly number[];
    flags?: readonly string[];
  }

  /** Writes to the disk when a part of its image has been read. */
  async function streamWhile(origin: string, disk: string, { offsets = [MIB, 20 * MIB], flags = [] }: WriteMeanwhile = {}) {
    const write = (at: number) => `printf x | dd of='${origin}' bs=1 seek=${at} conv=notrunc status=none`;
    const reader = `{ head -c ${4 * MIB} > /dev/null; ${offsets.map(write).join('; ')}; cat > /dev/null; }`;
    return runShell(`${diskliftLine(['stream', ...flags, disk])} | ${reader}`);
  }

  const data = { offsetBytes: 0, lengthBytes: 32 * MIB, content: 'random' } as const;

  describe('on ext4 with small inodes, which keeps whole seconds only', () => {
    const { mounted } = useFileSystem('ext4 with small inodes');

    it('is refused when it is written to again within the second of its last write', async () => {
      // At the start of a second, so that everything that follows can happen within it.
      await sleep(1000 - (Date.now() % 1000) + 20);
      await createDisk(mounted('disk.img'), 33 * MIB, [data]);
      const { code, stderr } = await streamWhile(mounted('disk.img'), mounted('disk.img'), { flags: ['--zero-detection', 'extents'] });
      assert.equal(code, 1, stderr);
      assert.match(stderr, /disk\.img: changed while it was read \(mtime, ctime\);/);
    });
  });

  describe('on a file system that caches attributes', () => {
    const { mounted, origin } = useFileSystem('FUSE that remembers');

    it('is refused when another program has written to it', async () => {
      await createDisk(origin('disk.img'), 33 * MIB, [data]);
      const { code, stderr } = await streamWhile(origin('disk.img'), mounted('disk.img'), { flags: ['--zero-detection', 'extents'] });
      assert.equal(code, 1, stderr);
      assert.match(stderr, /disk\.img: changed while it was read \(mtime, ctime\);/);
    });

    it('is streamed with the right content, although it shows no holes there', async () => {
      await createDisk(origin('disk.img'), 33 * MIB, [{ ...data, lengthBytes: MIB }]);
      await shell(`${diskliftLine(['stream', mounted('disk.img')])} | cat > '${temp('out.qcow2')}'`);
      await assertImageOf(temp('out.qcow2'), origin('disk.img'));
    });
  });

  /** File systems with unreliable times, locks or cached pages while another program writes to the files beneath. */
  for (const name of ['sshfs', 'fuse-overlayfs', 'nbdfuse', 'FUSE export of QEMU'] as const)
    describe(`on ${name}`, () => {
      const { mounted, origin } = useFileSystem(name);
      const start = 5 * MIB;

      it('is streamed unchanged, with its holes', async () => {
        await createDisk(origin('disk.img'), ONLY_DISK_BYTES, [{ offsetBytes: start, lengthBytes: 9 * MIB, content: 'random' }]);
        await shell(`${diskliftLine(['stream', mounted('disk.img')])} | cat > '${temp('out.qcow2')}'`);
        await assertImageOf(temp('out.qcow2'), origin('disk.img'));
      });

      async function assertRefused(writtenOffsets: readonly number[]): Promise<void> {
        const parts = [{ offsetBytes: 0, lengthBytes: 32 * MIB, content: 'random' }] as const;
        await createDisk(origin('disk.img'), ONLY_DISK_BYTES, parts);
        const { code, stderr } = await streamWhile(origin('disk.img'), mounted('disk.img'), { offsets: writtenOffsets });
        assert.equal(code, 1, stderr);
        assert.match(stderr, /disk\.img: changed while it was read/);
      }

      // An early and a late offset: with only one of the two writes the image would mix old and new content.
      it('is refused when another program has written to it, even if its times do not show that', () => assertRefused([MIB, 30 * MIB]));

      // The others show no holes, so all bytes are read and compared at once.
      if (name === 'FUSE export of QEMU')
        it('is refused when another program has written to one of its holes', () => assertRefused([32.5 * MIB]));

      it('does not count as free, because the lock of its writer is not visible', async () => {
        await createDisk(origin('disk.img'), ONLY_DISK_BYTES, []);
        await using _writer = await openForWriting(origin('disk.img'));
        const { code, stderr } = await disklift(['stream', '--in-use', 'fail', mounted('disk.img')]);
        assert.equal(code, 1);
        assert.match(stderr, /disk\.img: its file system \(fuse[^)]*\) may not show the locks of other machines, so nobody can tell/);
      });
    });

  describe('on nbdfuse, in a qcow2 image', () => {
    const { mounted, origin } = useFileSystem('nbdfuse');

    for (const [reader, compress] of Object.entries({ disklift: '', QEMU: '-c' }))
      it(`is read with newly loaded tables when it is opened again, by ${reader}`, async () => {
        const [offset, length] = [8 * MIB, 65_536];
        await createDisk(temp('raw'), 16 * MIB, [{ offsetBytes: MIB, lengthBytes: MIB, content: 'random' }]);
        const image = origin('disk.img');
        // Written in place, because the mount shows the existing file.
        await shell(
          `qemu-img convert -f raw -O qcow2 ${compress} '${temp('raw')}' '${temp('image')}'; cat '${temp('image')}' > '${image}'`,
        );
        await shell(`truncate -s ${ONLY_DISK_BYTES} '${image}'`);
        const first = await openAsRequested(mounted('disk.img'), 'qcow2');
        try {
          await shell(`qemu-io -f qcow2 -c 'write -P 7 ${offset} ${length}' '${image}'`);
          const again = (await first.openAgain?.(NEVER)) ?? assert.fail('it remembers its tables');
          const bytes = Buffer.alloc(length);
          await again.read(bytes, offset, NEVER);
          assert.ok(bytes.equals(Buffer.alloc(length, 7)));
        } finally {
          await first.dispose();
        }
      });
  });

  describe('on overlayfs', () => {
    const { mounted, origin } = useFileSystem('overlayfs');

    it('does not count as free, because the lock of a writer to its layer is not visible', async () => {
      await createDisk(origin('disk.img'), ONLY_DISK_BYTES, []);
      await using _writer = await openForWriting(origin('disk.img'));
      const { code, stderr } = await disklift(['stream', '--in-use', 'fail', mounted('disk.img')]);
      assert.equal(code, 1);
      assert.match(stderr, /disk\.img: its file system \(overlay\) may not show the locks of other machines/);
    });

    it('is refused when another program has written to its layer', async () => {
      await createDisk(origin('disk.img'), ONLY_DISK_BYTES, [data]);
      const { code, stderr } = await streamWhile(origin('disk.img'), mounted('disk.img'));
      assert.equal(code, 1, stderr);
      assert.match(stderr, /disk\.img: changed while it was read \(mtime, ctime\);/);
    });
  });

  for (const name of ['tmpfs', 'ext4', 'xfs', 'btrfs'] as const)
    describe(`on ${name}`, () => {
      const { mounted } = useFileSystem(name);

      it('has the same size at each run although a read has cached the zeros of unwritten extents', async () => {
        const disk = mounted('disk.img');
        await shell(`fallocate -l 12M '${disk}'; head -c 1M /dev/urandom | dd of='${disk}' bs=1M seek=3 conv=notrunc,fsync status=none`);
        const measure = () => disklift(['measure', '--zero-detection', 'extents', '--output', 'json', disk]);
        const before = await measure();
        await shell(`cat '${disk}' > /dev/null`);
        assert.equal((await measure()).stdout.toString(), before.stdout.toString());
      });

      it('is read once, because its times and locks are reliable', async () => {
        const disk = await createDisk(mounted('disk.img'), MIB, [{ ...data, lengthBytes: MIB }]);
        const options = { libc: loadLibc(), readLimit: createLimiter(4), warn: assert.fail, inUse: 'fail' } as const;
        const source = await openDisk(disk, options);
        assert.equal(source.identityMissesWrites, false);
        await source.dispose();
      });
    });
});
