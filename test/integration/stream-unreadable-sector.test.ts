/** An unreadable sector fails the export of an image only where the image needs that sector. */

import assert from 'node:assert/strict';
import { stat, writeFile } from 'node:fs/promises';
import { diskliftLine } from '../helpers/disklift.ts';
import { useFileSystem } from '../helpers/file-system.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { type CommandResult, runShell } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const CLUSTER_BYTES = 4 * KIB;

/** A cluster of the guest in the middle of its data. */
const FREED_AT = 2.5 * MIB;
/** Frees clusters around it as well, so that the data between them is short and disklift reads it together. */
const DISCARDS = [-2, -1, 0, 1, 2].map((index) => `-c 'discard ${FREED_AT + index * 4 * CLUSTER_BYTES} ${CLUSTER_BYTES}'`);

describe('a qcow2 file with an unreadable sector', function () {
  this.timeout(60_000);
  const temp = useTempDir();
  const { mounted, origin } = useFileSystem('storage with an unreadable sector');
  let freedAt: number;

  /** Offset in the qcow2 file at which the bytes of a guest cluster lie. */
  async function fileOffsetOf(guestOffset: number): Promise<number> {
    const { stdout } = await runShell(`qemu-img map --output json '${temp('disk.qcow2')}'`);
    const extents = JSON.parse(stdout.toString()) as { start: number; length: number; offset?: number }[];
    const extent = extents.find(({ start, length }) => start <= guestOffset && guestOffset < start + length);
    assert.ok(extent?.offset !== undefined, `nothing at ${guestOffset}`);
    return extent.offset + guestOffset - extent.start;
  }

  beforeEach(async () => {
    await createDisk(temp('disk.raw'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 4 * MIB, content: 'random' }]);
    const options = `cluster_size=${CLUSTER_BYTES},compat=0.10`;
    const convert = `qemu-img convert -f raw -O qcow2 -o ${options} '${temp('disk.raw')}' '${temp('disk.qcow2')}'`;
    assert.equal((await runShell(convert)).code, 0);
    freedAt = await fileOffsetOf(FREED_AT);
    const discard = `qemu-io -f qcow2 -d unmap ${DISCARDS.join(' ')} '${temp('disk.qcow2')}'`;
    assert.equal((await runShell(discard)).code, 0);
    assert.equal((await runShell(`dd if='${temp('disk.qcow2')}' of='${origin('disk.img')}' bs=1M conv=notrunc status=none`)).code, 0);
  });

  async function streamWithBrokenSectorAt(offset: number): Promise<CommandResult> {
    await writeFile(origin('broken'), `${offset}`);
    const line = diskliftLine(['stream', '-f', 'qcow2', '--verify', 'never', mounted('disk.img')]);
    return runShell(`${line} > '${temp('out.qcow2')}'`);
  }

  it('is exported completely when no cluster of the guest lies there', async () => {
    const { code, stderr } = await streamWithBrokenSectorAt(freedAt + 512);
    assert.equal(code, 0, stderr);
    assert.equal((await runShell(`qemu-img convert -f qcow2 -O raw '${temp('disk.qcow2')}' '${temp('expected.raw')}'`)).code, 0);
    await assertImageOf(temp('out.qcow2'), temp('expected.raw'));
  });

  it('fails with the offset of the sector, and gives no image, when the guest has data there', async () => {
    const brokenAt = freedAt + CLUSTER_BYTES + 512;
    const { code, stderr } = await streamWithBrokenSectorAt(brokenAt);
    assert.equal(code, 1);
    const offset = Number(/^disklift: \S+: cannot read at offset (\d+): EIO\n$/.exec(stderr)?.[1]);
    assert.ok(offset <= brokenAt && brokenAt < offset + CLUSTER_BYTES, stderr);
    assert.equal((await stat(temp('out.qcow2'))).size, 0);
  });
});
