import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readlinkSync, truncateSync } from 'node:fs';
import path from 'node:path';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { createFileOutput } from '../../../../src/targets/tcp/file-output.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const HELLO = { exportUid: 'u', disk: 'd', sizeBytes: 4, fingerprint: 'f' };

describe('file output', () => {
  const temp = useTempDir();

  /** The files beneath the test's directory that this process has open. */
  function openFiles(): string[] {
    const targets = readdirSync('/proc/self/fd').map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return '';
      }
    });
    return targets.filter((target) => target.startsWith(temp('')));
  }

  it('leaves no descriptor open when the state of a new image cannot be written', async () => {
    // Stands where the state is drafted.
    mkdirSync(path.join(temp('a.qcow2.partial.json.new'), 'occupied'), { recursive: true });
    const output = await createFileOutput({ path: temp('a.qcow2'), force: false });
    await assert.rejects(output.begin(HELLO), (error) => {
      assert.ok(error instanceof DiskliftError);
      assert.deepEqual([error.code, error.message], ['DestinationRejected', 'cannot open the output: ERR_FS_EISDIR']);
      return true;
    });
    assert.deepEqual(openFiles(), []);
  });

  it('leaves no descriptor open when what was kept is no longer as long as its state says', async () => {
    const first = await createFileOutput({ path: temp('a.qcow2'), force: false });
    await first.begin(HELLO);
    await first.write(Buffer.from('ab'));
    await first.suspend();
    truncateSync(temp('a.qcow2.partial'), 1);
    const second = await createFileOutput({ path: temp('a.qcow2'), force: false });
    assert.equal(await second.begin(HELLO), 0);
    assert.equal(openFiles().length, 1);
    await second.suspend();
    assert.deepEqual(openFiles(), []);
  });
});
