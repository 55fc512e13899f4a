/** `disklift stream` into every kind of standard output. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { runShell } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

/** Long runs for splice, short ones between them, zeros, holes, and an end inside a cluster. */
const DISK_SIZE_BYTES = 64 * MIB + 1000;
const PARTS = [
  { offsetBytes: 0, lengthBytes: 9 * MIB, content: 'random' as const },
  { offsetBytes: 10 * MIB, lengthBytes: 2 * MIB, content: 'zeros' as const },
  ...Array.from({ length: 20 }, (_, index) => ({ offsetBytes: (20 + index) * MIB, lengthBytes: 10_000, content: 'random' as const })),
  { offsetBytes: 50 * MIB + 300, lengthBytes: 7 * MIB, content: 'random' as const },
  { offsetBytes: 64 * MIB, lengthBytes: 1000, content: 'random' as const },
];

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** A Python program between two pipes, because Node's streams cannot read this way. */
const SLOW_READER = `
import sys, time, os
total = 0
while True:
    piece = os.read(0, 700001)
    if not piece: break
    os.write(1, piece)
    time.sleep(0.005)
`;
/** Runs its arguments with a non-blocking pipe as standard output and copies that slowly to its own. */
const NONBLOCKING_PARENT = `
import sys, os, subprocess, time
reading, writing = os.pipe()
os.set_blocking(writing, False)
child = subprocess.Popen(sys.argv[1:], stdout=writing)
os.close(writing)
while True:
    piece = os.read(reading, 65536)
    if not piece: break
    os.write(1, piece)
    time.sleep(0.0005)
sys.exit(child.wait())
`;

describe('disklift stream', () => {
  const temp = useTempDir();
  let disk: string;
  let expected: string;

  beforeEach(async () => {
    disk = await createDisk(temp('disk.img'), DISK_SIZE_BYTES, PARTS);
    const fd = openSync(temp('expected.qcow2'), 'w');
    const { code, stderr } = await disklift(['stream', disk], { stdout: fd });
    closeSync(fd);
    assert.deepEqual([code, stderr], [0, '']);
    expected = sha256(readFileSync(temp('expected.qcow2')));
  });

  it('writes an image to a file', async () => {
    await assertImageOf(temp('expected.qcow2'), disk);
  });

  it('writes what measure predicts', async () => {
    const { stdout } = await disklift(['measure', disk, '--output', 'json']);
    const measured = JSON.parse(stdout.toString());
    assert.equal(measured.imageSizeBytes, (await stat(temp('expected.qcow2'))).size);
  });

  for (const withoutKoffi of [false, true]) {
    const how = withoutKoffi ? 'without koffi ' : '';
    const line = () => diskliftLine(['stream', disk], { withoutKoffi });

    it(`${how}writes the same to a pipe`, async () => {
      const { code, stderr } = await runShell(`${line()} | cat > '${temp('out')}'`);
      assert.deepEqual([code, stderr], [0, '']);
      assert.equal(sha256(await readFile(temp('out'))), expected);
    });

    it(`${how}writes the same to a pipe whose reader is slow`, async () => {
      const { code, stdout } = await runShell(`${line()} | python3 -c '${SLOW_READER}'`);
      assert.equal(code, 0);
      assert.equal(sha256(stdout), expected);
    });

    it(`${how}writes the same to a non-blocking pipe`, async () => {
      const { code, stdout, stderr } = await runShell(`python3 -c '${NONBLOCKING_PARENT}' ${line()}`);
      assert.deepEqual([code, stderr], [0, '']);
      assert.equal(sha256(stdout), expected);
    });

    it(`${how}writes the same to a socket`, async () => {
      // Node gives its children a socket pair where a shell gives a pipe.
      const { code, stdout } = await disklift(['stream', disk], { withoutKoffi });
      assert.equal(code, 0);
      assert.equal(sha256(stdout), expected);
    });

    it(`${how}appends to a file`, async () => {
      await writeFile(temp('out'), 'in front');
      const { code } = await runShell(`${line()} >> '${temp('out')}'`);
      assert.equal(code, 0);
      const written = await readFile(temp('out'));
      assert.equal(written.toString('latin1', 0, 8), 'in front');
      assert.equal(sha256(written.subarray(8)), expected);
    });

    it(`${how}writes behind the bytes that another process wrote by the same descriptor`, async () => {
      const { code } = await runShell(`(printf 12345; ${line()}; printf 67) > '${temp('out')}'`);
      assert.equal(code, 0);
      const written = await readFile(temp('out'));
      assert.equal(sha256(written.subarray(5, -2)), expected);
      assert.equal(written.toString('latin1', written.length - 2), '67');
    });

    it(`${how}writes to /dev/null`, async () => {
      const { code, stderr } = await runShell(`${line()} > /dev/null`);
      assert.deepEqual([code, stderr], [0, '']);
    });
  }

  it('gives the same bytes with zero detection by extents, if the disk has no written zeros', async () => {
    const sparse = await createDisk(temp('sparse.img'), 8 * MIB, [{ offsetBytes: MIB, lengthBytes: 64 * 1024, content: 'random' }]);
    const byContent = await disklift(['stream', sparse]);
    const byExtents = await disklift(['stream', sparse, '--zero-detection', 'extents']);
    assert.equal(byExtents.stderr, '');
    assert.ok(byExtents.stdout.equals(byContent.stdout));
  });

  it('warns once, and continues, when extents show no holes', async () => {
    const full = await createDisk(temp('full.img'), 4 * MIB, [{ offsetBytes: 0, lengthBytes: 4 * MIB, content: 'zeros' }]);
    const { code, stderr, stdout } = await disklift(['stream', full, '--zero-detection', 'extents']);
    assert.equal(code, 0);
    assert.match(stderr, /^disklift: warning: .*full\.img: no holes found.*\n$/);
    assert.ok(stdout.length > 4 * MIB);
  });
});
