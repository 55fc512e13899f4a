import assert from 'node:assert/strict';
import fs, { mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { loadLibc } from '../../src/native/libc.ts';
import type { DiskSource } from '../../src/sources/contract.ts';
import { NEVER } from '../helpers/image-in-process.ts';
import { openByUs, readDisk } from '../helpers/open-image.ts';
import { createRandomQcow2 } from '../helpers/random-qcow2.ts';
import { runCommand } from '../helpers/run-command.ts';
import { createRandom, SEED, SEED_TEXT } from '../helpers/seed.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const IMAGE_COUNT = 30;

/** The disk as QEMU reads it. */
async function contentByQemu(imagePath: string): Promise<Buffer> {
  const rawPath = `${imagePath}.raw`;
  const { code, stderr } = await runCommand('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', imagePath, rawPath], {
    cwd: path.dirname(imagePath),
  });
  assert.equal(code, 0, stderr);
  return readFile(rawPath);
}

/** Checks that extents and file extents agree with the content of the disk. */
async function assertTrueStory(disk: DiskSource, content: Buffer, story: string): Promise<void> {
  let at = 0;
  for await (const { offset, length, kind } of disk.extents(NEVER)) {
    assert.equal(offset, at, story);
    at += length;
    if (kind === 'zeros')
      assert.equal(
        content.subarray(offset, at).findIndex((byte) => byte !== 0),
        -1,
        `zeros at ${offset}\n${story}`,
      );
  }
  assert.equal(at, content.length, story);
  for (const { offset, length, fd, fileOffset } of disk.fileExtents?.(0, disk.sizeBytes) ?? []) {
    const bytes = Buffer.alloc(length);
    fs.readSync(fd, bytes, 0, length, fileOffset);
    assert.ok(bytes.equals(content.subarray(offset, offset + length)), `${length} bytes at ${offset}\n${story}`);
  }
  for (let offset = 0; offset < content.length; offset += 4096)
    if (disk.showsData?.(offset) === true)
      assert.ok(
        content.subarray(offset, offset + 512).some((byte) => byte !== 0),
        story,
      );
}

describe('plain qcow2', () => {
  const temp = useTempDir();

  it(`is read byte for byte as QEMU reads it ${SEED_TEXT}`, async function () {
    this.timeout(120_000);
    for (let index = 0; index < IMAGE_COUNT; index += 1) {
      const random = createRandom(SEED + index);
      const directory = temp(`${index}`);
      mkdirSync(directory);
      const image = await createRandomQcow2(directory, random);
      const story = `image ${index}\n${image.story.join('\n')}`;
      const content = await contentByQemu(image.path);
      await using opened = await openByUs(image.path, { libc: index % 4 === 3 ? undefined : loadLibc() });
      assert.ok(opened.disk !== undefined, `left to QEMU\n${story}`);
      assert.equal(opened.disk.sizeBytes, content.length, story);
      assert.ok((await readDisk(opened.disk, 1 + Math.floor(random() * 3e6))).equals(content), `another content\n${story}`);
      await assertTrueStory(opened.disk, content, story);
    }
  });
});
