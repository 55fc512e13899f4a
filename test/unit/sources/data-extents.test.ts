import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import { type Libc, loadLibc } from '../../../src/native/libc.ts';
import type { SourceExtent, WantedHoles } from '../../../src/sources/contract.ts';
import { dataExtents } from '../../../src/sources/data-extents.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const PIECES = 2500;

describe('extents of a file in thousands of short pieces', () => {
  const temp = useTempDir();

  /** 4 KiB of data and 4 KiB of a hole by turns, and 64 MiB of a hole at the end. */
  async function look(holes?: WantedHoles): Promise<{ extents: SourceExtent[]; callCount: number }> {
    await using handle = await fs.open(temp('disk.img'), 'w+');
    for (let piece = 0; piece < PIECES; piece += 1) await handle.write(Buffer.alloc(4 * KIB, 1), 0, 4 * KIB, piece * 8 * KIB);
    await handle.truncate(PIECES * 8 * KIB + 64 * MIB);
    await handle.sync();
    const libc = loadLibc() ?? assert.fail('koffi is not there');
    let callCount = 0;
    const counted: Libc = {
      ...libc,
      lseek(...parameters) {
        callCount += 1;
        return libc.lseek(...parameters);
      },
    };
    const extents: SourceExtent[] = [];
    const input = { libc: counted, fd: handle.fd, name: 'disk.img', sizeBytes: PIECES * 8 * KIB + 64 * MIB, signal: NEVER, holes };
    for await (const extent of dataExtents(input)) extents.push(extent);
    let end = 0;
    for (const { offset, length } of extents) {
      assert.equal(offset, end);
      end += length;
    }
    assert.equal(end, input.sizeBytes);
    return { extents, callCount };
  }

  it('has every hole for who wants all of them', async () => {
    assert.equal((await look()).extents.length, 2 * PIECES);
  });

  it('is asked about now and then for who finds zeros by itself, and has no data in what counts as a hole', async () => {
    const { extents, callCount } = await look('worthwhile');
    assert.ok(callCount < 250, `${callCount} calls`);
    for (const { offset, length, kind } of extents)
      if (kind === 'zeros') assert.ok(length === 4 * KIB || offset >= PIECES * 8 * KIB, `a hole of ${length} bytes at ${offset}`);
    // Long holes count as such again soon after the short ones are over.
    const trailing = extents.at(-1) ?? assert.fail();
    assert.ok(trailing.kind === 'zeros' && trailing.length >= 48 * MIB);
    assert.ok(extents.some(({ kind, length }) => kind === 'data' && length === 16 * MIB));
  });
});
