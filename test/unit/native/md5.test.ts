// Runs alone: it measures the event loop's delay.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import path from 'node:path';
import { loadMd5 } from '../../../src/native/md5.ts';
import { bytesInMemory } from '../../../src/targets/s3/part-bytes.ts';
import { NEVER } from '../../helpers/image-in-process.ts';

const ROOT = path.join(import.meta.dirname, '..', '..', '..');
const MIB = 1024 * 1024;
const md5Of = (bytes: Uint8Array) => createHash('md5').update(bytes).digest('hex');

describe('MD5 in the thread pool', () => {
  it('equals the MD5 of node:crypto, also for a part of a buffer', async () => {
    const md5 = (await loadMd5()) ?? assert.fail('this Node exports no MD5, or koffi is not installed');
    const bytes = randomBytes(3 * MIB + 17);
    for (const each of [bytes, bytes.subarray(5, 70), bytes.subarray(0, 0), bytes.subarray(MIB)])
      assert.equal(await md5(each), md5Of(each));
  });

  it('leaves the event loop free', async () => {
    const md5 = (await loadMd5()) ?? assert.fail('this Node exports no MD5, or koffi is not installed');
    const bytes = Buffer.alloc(64 * MIB, 'disklift');
    let turns = 0;
    let isDone = false;
    setImmediate(function again() {
      turns += 1;
      if (!isDone) setImmediate(again);
    });
    assert.equal(await md5(bytes), md5Of(bytes));
    isDone = true;
    assert.ok(turns > 100, `${turns} turns`);
  });

  it('is computed on the event loop without koffi, also for a part', async () => {
    const bytes = Buffer.alloc(2 * MIB + 3, 'disklift');
    const script = `
      const { bytesInMemory } = await import('${ROOT}/src/targets/s3/part-bytes.ts');
      const { loadMd5 } = await import('${ROOT}/src/native/md5.ts');
      const bytes = Buffer.alloc(${bytes.length}, 'disklift');
      console.log(await loadMd5(), await bytesInMemory(bytes).md5(new AbortController().signal));`;
    const preload = path.join(ROOT, 'test', 'fixtures', 'without-koffi.cjs');
    const printed = execFileSync(process.execPath, ['--require', preload, '--input-type=module', '--eval', script], { encoding: 'utf8' });
    assert.equal(printed.trim(), `undefined ${md5Of(bytes)}`);
    assert.equal(await bytesInMemory(bytes).md5(NEVER), md5Of(bytes));
  });
});
