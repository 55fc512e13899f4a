/**
 * A drop-in for qcow2-to-stdout.py: the same bytes for the same options. The script does not belong to this project.
 */

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { disklift } from '../helpers/disklift.ts';
import { runCommand } from '../helpers/run-command.ts';
import { createDisk, type DiskPart } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;
const PEERS = process.env.DISKLIFT_PEERS ?? path.join(import.meta.dirname, '..', '..', '..', 'shared', 'peers');
const SCRIPT = path.join(PEERS, 'qcow2-to-stdout-v2.py');

const DISKS: Record<string, [sizeBytes: number, parts: DiskPart[]]> = {
  empty: [0, []],
  'all hole': [MIB, []],
  mixed: [
    3 * MIB + 100,
    [
      { offsetBytes: 70_000, lengthBytes: 200_000, content: 'random' },
      { offsetBytes: MIB, lengthBytes: 100_000, content: 'zeros' },
      { offsetBytes: 3 * MIB, lengthBytes: 100, content: 'random' },
    ],
  ],
  full: [2 * MIB, [{ offsetBytes: 0, lengthBytes: 2 * MIB, content: 'random' }]],
};

const FLAGS = [
  [],
  ['-v', '2'],
  ['-c', '512'],
  ['-c', '512', '-r', '64'],
  ['-c', '4096', '-r', '1'],
  ['-c', '262144', '-r', '32'],
  ['-f', 'raw', '-c', '1024', '-v', '2', '-r', '16'],
  ['-c', '8192', '-r', '2'],
  ['-r', '4'],
  ['-r', '8'],
];

describe('beside qcow2-to-stdout.py', () => {
  const temp = useTempDir();

  before(function () {
    if (existsSync(SCRIPT)) return;
    console.error(`    SKIPPED: ${SCRIPT} is not there; set DISKLIFT_PEERS to the directory that holds it`);
    this.skip();
  });

  for (const [name, [sizeBytes, parts]] of Object.entries(DISKS)) {
    it(`writes the same bytes of a disk that is ${name}`, async () => {
      const disk = await createDisk(temp('disk.img'), sizeBytes, parts);
      for (const flags of FLAGS) {
        const theirs = await runCommand('python3', [SCRIPT, ...flags, disk]);
        const ours = await disklift(['stream', ...flags, disk]);
        assert.equal(theirs.code, 0, theirs.stderr);
        assert.ok(ours.stdout.equals(theirs.stdout), `${flags.join(' ')}: ${ours.stdout.length} and ${theirs.stdout.length} bytes`);
      }
    });
  }
});
