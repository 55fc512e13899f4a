// Runs alone: it counts what a process prints within seconds.

import assert from 'node:assert/strict';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { runCommand } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

describe('progress', () => {
  const temp = useTempDir();

  beforeEach(() => createDisk(temp('disk.img'), 16 * MIB, [{ offsetBytes: 0, lengthBytes: 4 * MIB, content: 'random' }]));

  it('prints nothing when standard error is no terminal', async () => {
    assert.equal((await disklift(['stream', temp('disk.img')])).stderr, '');
  });

  it('prints one JSON line for each pass and a final one', async () => {
    const { stdout, stderr } = await disklift(['stream', temp('disk.img'), '--progress=json']);
    const lines = stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      lines.map(({ pass, done }) => [pass, done]),
      [
        ['scan', false],
        ['stream', false],
        ['stream', true],
      ],
    );
    assert.equal(lines[0].totalBytes, 16 * MIB);
    assert.deepEqual([lines[2].bytes, lines[2].totalBytes], [stdout.length, stdout.length]);
    assert.ok(lines[2].bytesPerSecond > 0);
    assert.equal(lines[2].etaSeconds, 0);
  });

  it('prints a line every second', async () => {
    // The reader pauses from the first byte, however long the process takes to start.
    const slow = `${diskliftLine(['stream', temp('disk.img'), '--progress=json'])} | (head -c 1 >/dev/null; sleep 3.5; cat >/dev/null)`;
    const { stderr } = await runCommand('bash', ['-c', slow]);
    const streamLines = stderr
      .trimEnd()
      .split('\n')
      .filter((line) => JSON.parse(line).pass === 'stream');
    assert.ok(streamLines.length >= 5 && streamLines.length <= 7, stderr);
  });

  it('draws both passes on a terminal', async () => {
    const line = `${diskliftLine(['stream', temp('disk.img')])} > '${temp('out.qcow2')}'`;
    const { code, stdout } = await runCommand('script', ['-qec', line, '/dev/null']);
    assert.equal(code, 0);
    const screen = stdout.toString();
    assert.match(screen, /scan .*100%.*16 MiB of 16 MiB/s);
    assert.match(screen, /stream .*100%.*MiB\/s/s);
  });
});
