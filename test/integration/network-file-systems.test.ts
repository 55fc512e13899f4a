/** Disks on NFS, SMB and 9p: real kernels and real servers in a guest of User Mode Linux. */

import assert from 'node:assert/strict';
import { diskliftLine } from '../helpers/disklift.ts';
import { openInGuest, tryToWriteLine } from '../helpers/uml/guest-qemu-io.ts';
import {
  assertGuestImage,
  atClient,
  atOtherClient,
  atServer,
  MOUNT_NAMES,
  type MountName,
  useNetworkMounts,
} from '../helpers/uml/network-mounts.ts';

const MIB = 1024 * 1024;
const IMAGE = '/run/out.qcow2';

/** Data, zeros that were written, and holes: 33 MiB, with data in the first and the last cluster. */
const WRITE_DISK = `
set -e
rm -f "$disk"
truncate -s 33M "$disk"
head -c 12M /dev/urandom | dd of="$disk" bs=1M conv=notrunc iflag=fullblock status=none
head -c 1M /dev/zero | dd of="$disk" bs=1M seek=16 conv=notrunc status=none
head -c 1M /dev/urandom | dd of="$disk" bs=1M seek=32 conv=notrunc status=none
sync "$disk"`;

interface Answers {
  /** The client can ask for holes, so that disklift reads nothing of them. */
  holes: boolean;
}

const MOUNTS: Record<MountName, Answers> = {
  'nfs-4.2': { holes: true },
  'nfs-4.0': { holes: false },
  'nfs-3': { holes: false },
  'nfs-3-nolock': { holes: false },
  smb: { holes: false },
  'smb-nobrl': { holes: false },
  '9p': { holes: false },
};

describe('a disk on a network file system', function () {
  this.timeout(120_000);
  const guest = useNetworkMounts();
  const stream = (disk: string, ...flags: string[]) => diskliftLine(['stream', ...flags, disk]);

  beforeEach(() => guest().output(`disk=${atServer('disk.img')}; ${WRITE_DISK}`));

  for (const mount of MOUNT_NAMES) {
    const disk = atClient(mount, 'disk.img');

    it(`is streamed with all its bytes from ${mount}`, async () => {
      await guest().output(`${stream(disk)} > ${IMAGE}`);
      await assertGuestImage(guest(), IMAGE, 'disk.img');
    });

    it(`has ${MOUNTS[mount].holes ? '' : 'no '}holes for a client of ${mount}`, async () => {
      const measured = await guest().output(diskliftLine(['measure', '--zero-detection', 'extents', '--output', 'json', disk]));
      // Without holes the whole disk counts as data.
      const { imageSizeBytes } = JSON.parse(measured) as { imageSizeBytes: number };
      assert.equal(imageSizeBytes > 33 * MIB, !MOUNTS[mount].holes, `${imageSizeBytes} bytes`);
    });
  }

  for (const mount of ['nfs-4.2', 'nfs-4.0'] as const) {
    const disk = atClient(mount, 'disk.img');
    const writers = { 'the server': atServer('disk.img'), 'another client': atOtherClient(mount, 'disk.img') };

    for (const [place, file] of Object.entries(writers)) {
      it(`is in use for a client of ${mount} while a QEMU at ${place} has it open`, async () => {
        await using _writer = await openInGuest(guest(), file);
        for (const flags of [[], ['--in-use', 'fail']]) {
          const { code, stdout, stderr } = await guest().run(stream(disk, ...flags));
          assert.deepEqual([code, stdout.length], [1, 0], stderr);
          assert.match(stderr, /disk\.img: is in use by /);
        }
      });

      it(`keeps a QEMU at ${place} from writing while a client of ${mount} streams it`, async () => {
        const reader = `{ head -c ${4 * MIB}; ${tryToWriteLine(file)} >&2; cat; }`;
        const { code, stderr } = await guest().run(`${stream(disk, '--in-use', 'fail')} | ${reader} > ${IMAGE}`);
        assert.deepEqual([code, stderr], [0, '']);
        await assertGuestImage(guest(), IMAGE, 'disk.img');
        assert.equal((await guest().output(tryToWriteLine(file))).trim(), 'written', 'the disk is free again');
      });

      it(`is refused on ${mount} when a program at ${place} writes to it meanwhile`, async () => {
        const write = (at: number) => `printf x | dd of=${file} bs=1 seek=${at} conv=notrunc status=none`;
        const reader = `{ head -c ${4 * MIB} > /dev/null; ${write(MIB)}; ${write(10 * MIB)}; cat > /dev/null; }`;
        const { code, stderr } = await guest().run(`${stream(disk)} | ${reader}`);
        assert.equal(code, 1, stderr);
        assert.match(stderr, /disk\.img: changed while it was read \(mtime, ctime\)/);
      });
    }
  }
});
