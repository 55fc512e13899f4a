/** That no child is left, whenever and however its parent dies. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { processesWith, waitForNone } from '../../../helpers/processes.ts';
import { linkPrograms, QEMU_PROGRAMS } from '../../../helpers/qemu-programs.ts';
import { runCommand } from '../../../helpers/run-command.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const PARENT = path.join(import.meta.dirname, '..', '..', '..', 'fixtures', 'qemu-parent.ts');

/** From the moment that the parent begins to open the disk; QEMU serves after some 10 ms. */
const DELAYS_MS = [0, 2, 6, 12];

for (const program of QEMU_PROGRAMS)
  describe(`a child of ${program}`, () => {
    const temp = useTempDir();

    async function startParent(mark: string) {
      const parent = spawn(process.execPath, [PARENT, temp(''), 'a.qcow2'], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { PATH: temp('bin'), TMPDIR: temp('tmp'), MARK: mark },
      });
      let said = '';
      parent.stdout.setEncoding('utf8').on('data', (text) => {
        said += text;
      });
      return {
        parent,
        async hasSaid(word: string) {
          while (!said.includes(word)) {
            assert.equal(parent.exitCode, null, 'the parent has ended by itself');
            await sleep(1);
          }
        },
      };
    }

    beforeEach(async () => {
      await linkPrograms(temp('bin'), [program]);
      await runCommand('mkdir', [temp('tmp')]);
      await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', temp('a.qcow2'), '16M']);
    });

    async function killAndLook(moment: string, delayMs: number): Promise<void> {
      const mark = `disklift-${randomUUID()}`;
      const { parent, hasSaid } = await startParent(mark);
      await hasSaid(moment);
      await sleep(delayMs);
      if (moment === 'reads') assert.ok(processesWith(mark).length >= 3, 'QEMU and who watches over it are seen');
      const exited = once(parent, 'exit');
      parent.kill('SIGKILL');
      await exited;
      assert.deepEqual(await waitForNone(() => processesWith(mark)), [], `${moment}, ${delayMs} ms later`);
    }

    it('dies with a parent that is killed while it starts', async () => {
      for (const delayMs of DELAYS_MS) await killAndLook('opens', delayMs);
    });

    it('dies with a parent that is killed while it reads, and leaves no file', async () => {
      await killAndLook('reads', 50);
      assert.deepEqual(readdirSync(temp('tmp')), []);
    });
  });
