import assert from 'node:assert/strict';
import { mkdirSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileSignature, readUnchanged } from '../../../../src/stores/directory/directory-files.ts';
import { runCommand } from '../../../helpers/run-command.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

describe('a file in a directory of manifests', () => {
  const temp = useTempDir();

  it('is never read outside the directory, even while a link replaces a directory of its path', async () => {
    for (const [name, text] of [
      ['manifests/parent', 'inside'],
      ['outside', 'outside'],
    ] as const) {
      mkdirSync(temp(name), { recursive: true });
      writeFileSync(temp(`${name}/a.yaml`), text);
    }
    const directory = temp('manifests');
    const parent = path.join(directory, 'parent');
    symlinkSync('parent/a.yaml', path.join(directory, 'a.yaml'));
    const outside = await fileSignature(temp('outside'), 'a.yaml');
    const inside = await fileSignature(directory, 'a.yaml');
    assert.ok(outside !== undefined && inside !== undefined && outside !== inside);
    assert.equal(await readUnchanged(directory, { name: 'a.yaml', signature: inside }), 'inside');

    let isOver = false;
    const swapping = (async () => {
      while (!isOver) {
        renameSync(parent, `${parent}~`);
        symlinkSync(temp('outside'), parent);
        await nextTurn();
        unlinkSync(parent);
        renameSync(`${parent}~`, parent);
        await nextTurn();
      }
    })();
    const seen = { inside: 0, refused: 0 };
    try {
      const end = performance.now() + 1500;
      while (performance.now() < end) {
        try {
          const signature = await fileSignature(directory, 'a.yaml');
          assert.notEqual(signature, outside);
          if (signature === inside) seen.inside += 1;
          assert.equal(await readUnchanged(directory, { name: 'a.yaml', signature: outside }), undefined);
        } catch (error) {
          assert.match(String(error), /a link out of the directory/);
          seen.refused += 1;
        }
      }
    } finally {
      isOver = true;
      await swapping;
    }
    assert.ok(seen.inside > 0 && seen.refused > 0, JSON.stringify(seen));
  });

  it('may be read through the root of the file system', async () => {
    writeFileSync(temp('a.yaml'), 'text');
    const name = temp('a.yaml').slice(1);
    assert.ok((await fileSignature('/', name)) !== undefined);
  });

  it('is refused as a pipe without being opened', async () => {
    await runCommand('mkfifo', [temp('pipe')]);
    symlinkSync('pipe', temp('pipe.yaml'));
    await assert.rejects(fileSignature(temp('.'), 'pipe.yaml'), /pipe.yaml: is ignored: it is no file/);
  });
});
