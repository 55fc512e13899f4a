/** A disk that changes while it is streamed gives a truncated image, and never a complete wrong one. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, open, truncate, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { readAll, runCommand } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;
const DISK_SIZE_BYTES = 48 * MIB;

/** Reads 100,000 bytes, waits until its standard input ends, then passes on everything. */
const READER = `
import os, sys
first = os.read(3, 100000)
sys.stderr.write("started\\n"); sys.stderr.flush()
os.read(0, 1)
os.write(1, first)
while True:
    piece = os.read(3, 1 << 20)
    if not piece: break
    os.write(1, piece)
`;

interface Change {
  name: string;
  apply(path: string): Promise<unknown>;
  message: RegExp;
}

const CHANGES: Change[] = [
  {
    name: 'a byte is written to it',
    async apply(path) {
      await using file = await open(path, 'r+');
      await file.write(Buffer.from([0x77]), 0, 1, DISK_SIZE_BYTES - MIB);
    },
    message: /changed while it was read \(mtime, ctime\)/,
  },
  { name: 'it grows', apply: (path) => appendFile(path, 'more'), message: /changed while it was read \(size/ },
  { name: 'it is cut', apply: (path) => truncate(path, DISK_SIZE_BYTES / 2), message: /ends at offset \d+|changed while it was read/ },
];

describe('a disk that changes while it is streamed', () => {
  const temp = useTempDir();

  async function streamWhile(change: Change, withoutKoffi: boolean, diskSizeBytes = DISK_SIZE_BYTES) {
    const disk = await createDisk(temp('disk.img'), diskSizeBytes, [{ offsetBytes: 0, lengthBytes: diskSizeBytes, content: 'random' }]);
    const { stdout } = await disklift(['measure', disk, '--output', 'json']);
    const imageSizeBytes: number = JSON.parse(stdout.toString()).imageSizeBytes;
    await writeFile(temp('reader.py'), READER);
    const line = `set -o pipefail; ${diskliftLine(['stream', disk], { withoutKoffi })} | python3 '${temp('reader.py')}' 3<&0 0<&4`;
    const child: ChildProcess = spawn('bash', ['-c', line], { stdio: ['ignore', 'pipe', 'pipe', 'ignore', 'pipe'] });
    const received = readAll(child.stdout);
    let stderr = '';
    const started = new Promise<void>((resolve) => {
      child.stderr?.on('data', (text: Buffer) => {
        stderr += text.toString();
        if (stderr.includes('started\n')) resolve();
      });
    });
    const closed = once(child, 'close');
    await started;
    await change.apply(disk);
    (child.stdio[4] as NodeJS.WritableStream).end();
    const [code] = await closed;
    return { code, stderr: stderr.replace('started\n', ''), image: await received, imageSizeBytes };
  }

  for (const change of CHANGES)
    for (const withoutKoffi of [false, true]) {
      it(`gives a truncated image when ${change.name}${withoutKoffi ? ' (without koffi)' : ''}`, async () => {
        const { code, stderr, image, imageSizeBytes } = await streamWhile(change, withoutKoffi);
        assert.equal(code, 1, stderr);
        assert.match(stderr, /^disklift: [^\n]+\n$/);
        assert.match(stderr, change.message);
        assert.ok(image.length > 0, 'it had begun');
        assert.ok(image.length <= imageSizeBytes - 65_536, `${image.length} of ${imageSizeBytes} bytes: at least a cluster is missing`);
        await writeFile(temp('cut.qcow2'), image);
        assert.notEqual((await runCommand('qemu-img', ['check', temp('cut.qcow2')])).code, 0, 'qemu-img sees that it is cut');
      });
    }

  it('is detected while spliced pages wait in the pipe, because an unread pipe shows later content of the file', async () => {
    // All but the tail fits into the pipe before the reader has read a byte of data.
    const diskSizeBytes = 2 * MIB + 700_000;
    const change: Change = {
      name: 'a byte that lies in the pipe is written',
      async apply(path) {
        await delay(500);
        await using file = await open(path, 'r+');
        await file.write(Buffer.from([0x77]), 0, 1, 500_000);
      },
      message: /changed while it was read \(mtime, ctime\)/,
    };
    const { code, stderr, image, imageSizeBytes } = await streamWhile(change, false, diskSizeBytes);
    assert.equal(code, 1, stderr);
    assert.match(stderr, change.message);
    assert.ok(image.length <= imageSizeBytes - 65_536);
  });
});
