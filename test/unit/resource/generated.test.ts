import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { runCommand } from '../../helpers/run-command.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { CRD_FILE, SCHEDULE_CRD_FILE } from '../../tools/generate-types.ts';

const TOOL = path.resolve('test/tools/generate-types.ts');

describe('files generated from the CRD', () => {
  const inTemp = useTempDir();

  it('are reported when they differ from the CRD, whichever of the two was edited', async () => {
    const cwd = inTemp('checkout');
    mkdirSync(path.join(cwd, 'src'), { recursive: true });
    for (const file of [CRD_FILE, SCHEDULE_CRD_FILE, 'src/resource', 'biome.json']) cpSync(file, path.join(cwd, file), { recursive: true });
    // Biome takes what to leave alone from the repository's root.
    await runCommand('git', ['init', '-q'], { cwd });
    const check = () => runCommand(process.execPath, [TOOL, '--check'], { cwd });
    const edit = (file: string, from: string, to: string) => {
      const text = readFileSync(path.join(cwd, file), 'utf8');
      assert.ok(text.includes(from));
      writeFileSync(path.join(cwd, file), text.replace(from, to));
    };
    assert.partialDeepStrictEqual(await check(), { code: 0, stderr: '' });

    edit('src/resource/spec-schema.ts', '65535', '65536');
    const byHand = await check();
    assert.equal(byHand.code, 1);
    assert.match(byHand.stderr, /^src\/resource\/spec-schema\.ts: .*make generate/);

    edit('src/resource/spec-schema.ts', '65536', '65535');
    edit(CRD_FILE, 'enum: [PUT, POST]', 'enum: [PUT, POST, PATCH]');
    const { stderr } = await check();
    assert.deepEqual(stderr.match(/^\S+(?=: is not)/gm), [SCHEDULE_CRD_FILE, 'src/resource/disk-export.ts', 'src/resource/spec-schema.ts']);
  });
});
