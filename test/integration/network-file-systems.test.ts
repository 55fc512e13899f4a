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

/** A disk of 33 MiB with data, written zeros and holes; the first and the last cluster hold data. */
const WRITE_DISK = `
set -e
rm -f "$disk"
truncate -s 33M "$disk"
head -c 12M /dev/urandom | dd of="$disk" bs=1M conv=notrunc iflag=fullblock status=none
head -c 1M /dev/zero | dd of="$disk" bs=1M seek=16 conv=notrunc status=none
head -c 1M /dev/urandom | dd of="$disk" bs=1M seek=32 conv=notrunc status=none
sync "$disk"`;

/** Refusals of `--in-use fail` for a disk that a QEMU has open: QEMU's locks are visible, or the use is unknown. */
const REFUSALS = { seen: /disk\.img: is in use by /, unknown: /disk\.img: .*, so nobody can tell whether it is in use;/ };

interface Answers {
  /** The client reports holes, so disklift does not read them. */
  holes: boolean;
  /** A QEMU on the server itself, and one at another client. */
  qemuAtServer: keyof typeof REFUSALS;
  qemuAtClient: keyof typeof REFUSALS;
  /** QEMU refuses to open a disk that it cannot lock, so the test turns its locking off. */
  qemuCannotLock?: true;
}

const MOUNTS: Record<MountName, Answers> = {
  'nfs-4.2': { holes: true, qemuAtServer: 'seen', qemuAtClient: 'seen' },
  'nfs-4.0': { holes: false, qemuAtServer: 'seen', qemuAtClient: 'seen' },
  // A server of NFSv3 treats a query for a write lock like one for a read lock, and QEMU holds read locks.
  'nfs-3': { holes: false, qemuAtServer: 'unknown', qemuAtClient: 'unknown' },
  'nfs-3-nolock': { holes: false, qemuAtServer: 'unknown', qemuAtClient: 'unknown' },
  // Samba does not show the locks of its clients to programs on the server.
  smb: { holes: false, qemuAtServer: 'unknown', qemuAtClient: 'seen' },
  'smb-nobrl': { holes: false, qemuAtServer: 'unknown', qemuAtClient: 'unknown' },
  // diod does not support queries for a lock's holder.
  '9p': { holes: false, qemuAtServer: 'unknown', qemuAtClient: 'unknown', qemuCannotLock: true },
};

describe('a disk on a network file system', function () {
  this.timeout(120_000);
  const guest = useNetworkMounts();
  const stream = (disk: string, ...flags: string[]) => diskliftLine(['stream', ...flags, disk]);

  beforeEach(() => guest().output(`disk=${atServer('disk.img')}; ${WRITE_DISK}`));

  for (const mount of MOUNT_NAMES) {
    const { holes, qemuAtServer, qemuAtClient, qemuCannotLock } = MOUNTS[mount];
    const disk = atClient(mount, 'disk.img');
    // Times of SMB miss writes on the server, so the content is read twice and compared.
    const isCompared = mount.startsWith('smb');

    it(`${mount}: is streamed with all its bytes`, async () => {
      await guest().output(`${stream(disk)} > ${IMAGE}`);
      await assertGuestImage(guest(), IMAGE, 'disk.img');
    });

    it(`${mount}: has ${holes ? '' : 'no '}holes for a client`, async () => {
      const measured = await guest().output(diskliftLine(['measure', '--zero-detection', 'extents', '--output', 'json', disk]));
      // Without holes the whole disk counts as data.
      const { imageSizeBytes } = JSON.parse(measured) as { imageSizeBytes: number };
      assert.equal(imageSizeBytes > 33 * MIB, !holes, `${imageSizeBytes} bytes`);
    });

    const writers = [
      { place: 'on the server', file: atServer('disk.img'), qemu: qemuAtServer, locking: 'on' },
      { place: 'at another client', file: atOtherClient(mount, 'disk.img'), qemu: qemuAtClient, locking: qemuCannotLock ? 'off' : 'on' },
    ] as const;
    for (const { place, file, qemu, locking } of writers) {
      it(`${mount}: is ${qemu === 'seen' ? 'in use' : 'not known to be free'} while a QEMU ${place} has it open`, async () => {
        await using _writer = await openInGuest(guest(), file, locking);
        const { code, stdout, stderr } = await guest().run(stream(disk, '--in-use', 'fail'));
        assert.deepEqual([code, stdout.length], [1, 0], stderr);
        assert.match(stderr, REFUSALS[qemu]);
      });

      it(`${mount}: is refused when a program ${place} writes to it meanwhile${isCompared ? ', or streamed as it was before' : ''}`, async () => {
        await guest().output(`cp --sparse=always ${atServer('disk.img')} ${atServer('before.img')}`);
        const write = (at: number) => `printf x | dd of=${file} bs=1 seek=${at} conv=notrunc status=none`;
        const reader = `{ head -c ${4 * MIB}; ${write(MIB)}; ${write(32 * MIB + 700_000)}; cat; } > ${IMAGE}`;
        const { code, stderr } = await guest().run(`${stream(disk)} | ${reader}`);
        // Pages that the client had cached may hide the write from both readings; then the image contains nothing of
        // the write.
        if (isCompared && code === 0) return assertGuestImage(guest(), IMAGE, 'before.img');
        assert.equal(code, 1, stderr);
        assert.match(stderr, /disk\.img: changed while it was read/);
      });

      if (mount === 'nfs-4.2')
        it(`${mount}: keeps a QEMU ${place} from writing while it is streamed, and no longer`, async () => {
          const reader = `{ head -c ${4 * MIB}; ${tryToWriteLine(file)} >&2; cat; }`;
          const { code, stderr } = await guest().run(`${stream(disk, '--in-use', 'fail')} | ${reader} > ${IMAGE}`);
          assert.deepEqual([code, stderr], [0, '']);
          await assertGuestImage(guest(), IMAGE, 'disk.img');
          assert.equal((await guest().output(tryToWriteLine(file))).trim(), 'written');
        });
    }
  }
});
