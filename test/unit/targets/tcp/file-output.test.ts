import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, readlinkSync, truncateSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { createFileOutput } from '../../../../src/targets/tcp/file-output.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const MIB = 2 ** 20;
const HELLO = { exportUid: 'u', disk: 'd', sizeBytes: 4, fingerprint: 'f' };

describe('file output', () => {
  const temp = useTempDir();

  /** Files beneath the test's directory that this process has open. */
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
    // A directory at the path of the state's draft.
    mkdirSync(path.join(temp('.a.qcow2.partial.json.tmp'), 'occupied'), { recursive: true });
    const output = await createFileOutput({ path: temp('a.qcow2'), force: false });
    await assert.rejects(output.begin(HELLO), (error) => {
      assert.ok(error instanceof DiskliftError);
      assert.deepEqual([error.code, error.message], ['DestinationRejected', 'cannot open the output: EISDIR']);
      return true;
    });
    assert.deepEqual(openFiles(), []);
  });

  it('leaves no descriptor open when the kept file is shorter than its state says', async () => {
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

  describe('on a disk that fails to write once', () => {
    /** Undoes {@link failOnce}. */
    let repair = () => {};
    afterEach(() => repair());

    /** Imitates the kernel, which reports a failed write at one sync and at no later one. */
    async function failOnce(call: 'sync' | 'datasync'): Promise<void> {
      const probe = await open(temp(''), 'r');
      const prototype = Object.getPrototypeOf(probe) as FileHandle;
      await probe.close();
      const original = prototype[call];
      repair = () => {
        prototype[call] = original;
      };
      prototype[call] = async () => {
        repair();
        throw Object.assign(new Error('i/o error'), { code: 'EIO', errno: -5 });
      };
    }

    async function rejectsWithEio(promise: Promise<unknown>): Promise<void> {
      await assert.rejects(promise, (error) => {
        assert.ok(error instanceof DiskliftError);
        assert.match(error.message, /EIO/);
        return true;
      });
    }

    async function assertBeginsAnew(): Promise<void> {
      const next = await createFileOutput({ path: temp('a.qcow2'), force: false });
      assert.equal(await next.begin(HELLO), 0, 'goes on behind bytes that the disk has lost');
      await next.write(Buffer.from('abcd'));
      await next.finish();
      assert.equal(readFileSync(temp('a.qcow2'), 'latin1'), 'abcd');
    }

    it('does not resume behind bytes that were lost at the end', async () => {
      const output = await createFileOutput({ path: temp('a.qcow2'), force: false });
      await output.begin(HELLO);
      await output.write(Buffer.from('abcd'));
      await failOnce('sync');
      await rejectsWithEio(output.finish());
      await output.suspend();
      await assertBeginsAnew();
    });

    it('does not resume behind bytes that were lost at a checkpoint', async () => {
      const large = { ...HELLO, sizeBytes: 33 * MIB };
      const output = await createFileOutput({ path: temp('a.qcow2'), force: false });
      await output.begin(large);
      await failOnce('datasync');
      await output.write(Buffer.alloc(32 * MIB));
      await rejectsWithEio(output.finish());
      await output.suspend();
      const next = await createFileOutput({ path: temp('a.qcow2'), force: false });
      assert.equal(await next.begin(large), 0, 'goes on behind bytes that the disk has lost');
      await next.suspend();
    });
  });
});
