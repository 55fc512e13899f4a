import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { isPattern, matchDisks } from '../../../src/formats/find-disks.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

describe('a pattern for disks', () => {
  const temp = useTempDir();
  beforeEach(() => {
    for (const directory of ['db01', 'db01/b-1', 'db01/b-2', 'web', '.hidden']) mkdirSync(temp(directory));
    for (const file of ['db01/b-1/b-root.qcow2', 'db01/b-2/b-root.qcow2', 'db01/b-2/b-data.qcow2', 'web/a+b.img', 'root.img', '.dot.img'])
      writeFileSync(temp(file), '');
    mkdirSync(temp('db01/b-1/directory.qcow2'));
    symlinkSync(temp('db01'), temp('link'));
    symlinkSync(temp('root.img'), temp('linked.img'));
  });

  const rows: [pattern: string, paths: string[]][] = [
    ['*.img', ['root.img']],
    ['db01/*/*.qcow2', ['db01/b-1/b-root.qcow2', 'db01/b-2/b-data.qcow2', 'db01/b-2/b-root.qcow2']],
    ['*/b-2/b-*.qcow2', ['db01/b-2/b-data.qcow2', 'db01/b-2/b-root.qcow2']],
    ['web/a+*', ['web/a+b.img']],
    ['.*.img', ['.dot.img']],
    ['r*t.img', ['root.img']],
  ];
  for (const [pattern, paths] of rows)
    it(`${pattern} matches files, but no link or directory`, async () => {
      assert.ok(isPattern(pattern));
      assert.deepEqual(await matchDisks(temp(''), pattern), paths);
    });

  for (const pattern of ['*.vmdk', 'link/*/*.qcow2', 'linked*', 'db01/*.qcow2', 'web/a.b*'])
    it(`${pattern} without a match is named in the error`, async () => {
      await assert.rejects(matchDisks(temp(''), pattern), { code: 'SourceNotFound', message: /no file fits/ });
    });

  it('fails where a directory cannot be read', async () => {
    await assert.rejects(matchDisks(temp('absent'), '*.img'), { code: 'SourceNotFound' });
    await assert.rejects(matchDisks(temp(''), 'absent/*.img'), { code: 'SourceNotFound' });
  });
});
