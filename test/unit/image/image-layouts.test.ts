import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import fc from 'fast-check';
import { systemClock } from '../../../src/common/clock.ts';
import { type PreparedImage, prepareImage, type Verify } from '../../../src/image/prepare-image.ts';
import { DEFAULT_OPTIONS, NEVER, openSource } from '../../helpers/image-in-process.ts';
import { SEED, SEED_TEXT } from '../../helpers/seed.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

describe('an image that is the file itself', () => {
  const temp = useTempDir();

  function prepare(file: string, verify: Verify = 'auto'): Promise<PreparedImage> {
    return prepareImage({
      layout: 'Verbatim',
      qcow2: DEFAULT_OPTIONS,
      zeroDetection: 'content',
      verify,
      openSource: () => openSource(file),
      signal: NEVER,
      clock: systemClock,
      warn: (message) => assert.fail(message),
    });
  }

  for (const verify of ['auto', 'always'] as const)
    it(`has the file's bytes in any range, also in holes and zeros, with verify ${verify} ${SEED_TEXT}`, async () => {
      const sizeBytes = 5 * MIB + 777;
      const file = await createDisk(temp('file'), sizeBytes, [
        { offsetBytes: 100_000, lengthBytes: MIB, content: 'random' },
        { offsetBytes: 2 * MIB, lengthBytes: MIB, content: 'zeros' },
        { offsetBytes: sizeBytes - 1000, lengthBytes: 1000, content: 'random' },
      ]);
      const expected = await fs.readFile(file);
      await using prepared = await prepare(file, verify);
      const { image, layout } = prepared;
      assert.deepEqual([image.sizeBytes, layout.dataOffset, layout.map.clusters.data], [sizeBytes, 0, Math.ceil(sizeBytes / 65_536)]);
      const place = fc.nat(sizeBytes);
      await fc.assert(
        fc.asyncProperty(place, place, async (a, b) => {
          const bytes = Buffer.alloc(Math.abs(a - b), 1);
          await image.read(bytes, Math.min(a, b), NEVER);
          assert.ok(bytes.equals(expected.subarray(Math.min(a, b), Math.max(a, b))));
        }),
        { seed: SEED, numRuns: 40 },
      );
      const chunks: Buffer[] = [];
      for await (const chunk of image.stream({ signal: NEVER })) chunks.push(Buffer.from(chunk));
      assert.ok(Buffer.concat(chunks).equals(expected));
      await prepared.seal();
    });

  it('may be empty', async () => {
    await fs.writeFile(temp('empty'), '');
    await using prepared = await prepare(temp('empty'));
    assert.equal(prepared.image.sizeBytes, 0);
    await prepared.seal();
  });

  it('is not sealed when the file has changed', async () => {
    const file = await createDisk(temp('file'), MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]);
    await using prepared = await prepare(file);
    await fs.appendFile(file, 'x');
    await assert.rejects(prepared.seal(), { code: 'SourceChanged' });
  });

  it('has another fingerprint than the converted image, and the same one for the same file', async () => {
    const file = await createDisk(temp('file'), MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]);
    const fingerprints: string[] = [];
    for (const layout of ['Verbatim', 'Verbatim', 'Converted'] as const) {
      await using prepared = await prepareImage({
        layout,
        qcow2: DEFAULT_OPTIONS,
        zeroDetection: 'content',
        openSource: () => openSource(file),
        signal: NEVER,
        clock: systemClock,
        warn: () => {},
      });
      fingerprints.push(prepared.image.fingerprint);
    }
    assert.equal(fingerprints[0], fingerprints[1]);
    assert.notEqual(fingerprints[0], fingerprints[2]);
  });
});
