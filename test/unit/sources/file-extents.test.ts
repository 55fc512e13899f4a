import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import { type Libc, loadLibc } from '../../../src/native/libc.ts';
import type { SourceExtent, WantedHoles } from '../../../src/sources/contract.ts';
import { dataExtents } from '../../../src/sources/file-extents.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const PIECES = 2500;

describe('the extents of a file with thousands of short holes', () => {
  const temp = useTempDir();

  /** Reads a file in which 4 KiB of data alternate with holes of 4 KiB, with a hole of 64 MiB at the end. */
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

  it('are reported with every hole to a reader that wants all holes', async () => {
    assert.equal((await look()).extents.length, 2 * PIECES);
  });

  it('are sampled for a reader that finds zeros by itself, and no hole contains data', async () => {
    const { extents, callCount } = await look('worthwhile');
    assert.ok(callCount < 250, `${callCount} calls`);
    for (const { offset, length, kind } of extents)
      if (kind === 'zeros') assert.ok(length === 4 * KIB || offset >= PIECES * 8 * KIB, `a hole of ${length} bytes at ${offset}`);
    // Long holes are reported again soon after the short ones end.
    const trailing = extents.at(-1) ?? assert.fail();
    assert.ok(trailing.kind === 'zeros' && trailing.length >= 48 * MIB);
    assert.ok(extents.some(({ kind, length }) => kind === 'data' && length === 16 * MIB));
  });
});
