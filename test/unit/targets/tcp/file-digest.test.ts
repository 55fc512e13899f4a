import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { open, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { FileDigest } from '../../../../src/targets/tcp/file-digest.ts';
import { createRandom, SEED, SEED_TEXT } from '../../../helpers/seed.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

describe('file digest', () => {
  const temp = useTempDir();

  const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

  it('knows bytes whose write lasts longer than catching up with what lies in front', async () => {
    const bytes = randomBytes(3 * MIB);
    await writeFile(temp('file'), bytes.subarray(0, MIB));
    await using file = await open(temp('file'), 'r+');
    const digest = new FileDigest(file, MIB);
    const rest = bytes.subarray(MIB);
    const writeSlowly = async () => {
      await sleep(100);
      await file.write(rest, 0, rest.length, MIB);
    };
    await digest.add(rest, writeSlowly());
    assert.equal(await digest.finish(), sha256(bytes));
  });

  it(`is the digest of the file however writes and catching up meet ${SEED_TEXT}`, async () => {
    const random = createRandom(SEED);
    for (let round = 0; round < 60; round += 1) {
      const bytes = randomBytes(Math.floor(random() * 6 * MIB));
      let at = Math.floor(random() * bytes.length);
      const path = temp(`${round}`);
      await writeFile(path, bytes.subarray(0, at));
      await using file = await open(path, 'r+');
      const digest = new FileDigest(file, at);
      while (at < bytes.length) {
        const piece = bytes.subarray(at, at + 1 + Math.floor(random() * MIB));
        const delayMs = random() < 0.5 ? 0 : Math.floor(random() * 4);
        const write = async () => {
          if (delayMs > 0) await sleep(delayMs);
          await file.write(piece, 0, piece.length, at);
        };
        await digest.add(piece, write());
        at += piece.length;
      }
      assert.equal(await digest.finish(), sha256(bytes), `round ${round}`);
    }
  });

  it('fails in the end when the file is shorter than it was said to be', async () => {
    await writeFile(temp('file'), 'abc');
    await using file = await open(temp('file'), 'r');
    const digest = new FileDigest(file, 10);
    await sleep(20);
    await assert.rejects(digest.finish(), /the file has become shorter/);
  });
});
