/** Images that qemu-img does not make by itself, or whose tables take more than one look. */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import fs from 'node:fs/promises';
import { DiskliftError } from '../../../src/common/errors.ts';
import { createLimiter } from '../../../src/common/limiter.ts';
import type { DiskFormat } from '../../../src/formats/formats.ts';
import { openImageFiles } from '../../../src/formats/image-files.ts';
import { requireNotTruncated } from '../../../src/formats/open-image-disk.ts';
import { loadLibc } from '../../../src/native/libc.ts';
import { createImage } from '../../helpers/create-image.ts';
import { failsWith } from '../../helpers/failure.ts';
import { judgeCutImage } from '../../helpers/judge-cut-image.ts';
import { openAsRequested } from '../../helpers/open-image.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const MIB = 2 ** 20;
const CUT_SHORT = failsWith('SourceReadError', /is cut short or damaged/);

describe('the truncation check of a complete image', () => {
  const temp = useTempDir();

  async function write(name: string, format: DiskFormat, ...commands: string[]): Promise<void> {
    const { code, stderr } = await runCommand('qemu-io', ['-f', format, ...commands.flatMap((each) => ['-c', each]), temp(name)]);
    assert.equal(code, 0, stderr.toString());
  }

  const open = async (name: string, format: DiskFormat) => (await openAsRequested(temp(name), format)).dispose();

  /** @param lost more than any padding */
  async function assertNeedsItsEnd(name: string, format: DiskFormat, lost: number): Promise<void> {
    await open(name, format);
    truncateSync(temp(name), readFileSync(temp(name)).length - lost);
    await assert.rejects(open(name, format), CUT_SHORT);
  }

  it('accepts more blocks than one sector bitmap of VHDX describes', async () => {
    await createImage(temp('a.vhdx'), { format: 'vhdx', options: ['block_size=1M'], size: '9G' });
    await write('a.vhdx', 'vhdx', 'write -P 3 4095M 1M', 'write -P 4 4096M 1M', 'write -P 5 8999M 1M');
    await assertNeedsItsEnd('a.vhdx', 'vhdx', 512);
  });

  it('reads tables in several pieces', async () => {
    await createImage(temp('a.vdi'), { format: 'vdi', size: '200G' });
    await write('a.vdi', 'vdi', 'write -P 3 150G 1M', 'write -P 4 0 1M');
    await assertNeedsItsEnd('a.vdi', 'vdi', MIB);
    await createImage(temp('a.vmdk'), { format: 'vmdk', size: '200G' });
    await write('a.vmdk', 'vmdk', 'write -P 3 150G 1M', 'write -P 4 0 1M');
    await assertNeedsItsEnd('a.vmdk', 'vmdk', 512);
  });

  it('requires the whole table', async () => {
    await createImage(temp('a.vdi'), { format: 'vdi', size: '200G' });
    truncateSync(temp('a.vdi'), 1024);
    await assert.rejects(
      open('a.vdi', 'vdi'),
      failsWith('SourceReadError', /its block map goes on to byte \d+, and the file ends at 1024/),
    );
    await createImage(temp('a.vmdk'), { format: 'vmdk', size: '200G' });
    truncateSync(temp('a.vmdk'), readFileSync(temp('a.vmdk')).readUInt32LE(56) * 512 + 4);
    await assert.rejects(open('a.vmdk', 'vmdk'), failsWith('SourceReadError', /its grain directory goes on/));
  });

  it('checks the backing files', async () => {
    for (const format of ['vmdk', 'vdi', 'qcow2'] as const) {
      await createImage(temp('base'), { format, size: '4M' });
      await write('base', format, 'write -P 3 1M 1M');
      await createImage(temp('top.qcow2'), { format: 'qcow2', backing: { name: 'base', format } });
      await open('top.qcow2', 'qcow2');
      truncateSync(temp('base'), readFileSync(temp('base')).length - MIB / 2);
      await assert.rejects(open('top.qcow2', 'qcow2'), failsWith('SourceReadError', /base: is cut short or damaged/));
    }
  });

  it('requires all grains of a VMFSSPARSE extent', async () => {
    const content = Buffer.alloc(MIB);
    randomBytes(4096).copy(content, MIB - 4096);
    // Header, grain directory, one grain table of 4096 entries, one grain of 8 sectors.
    const extent = Buffer.alloc(512 * (4 + 1 + 32 + 8));
    extent.write('COWD');
    for (const [index, value] of [1, 3, MIB / 512, 8, 4, 1].entries()) extent.writeUInt32LE(value, 4 + 4 * index);
    extent.writeUInt32LE(5, 4 * 512);
    extent.writeUInt32LE(37, 5 * 512 + 4 * (MIB / 4096 - 1));
    content.copy(extent, 37 * 512, MIB - 4096);
    const lines = ['# Disk DescriptorFile', 'version=1', 'CID=1', 'parentCID=ffffffff', 'createType="vmfsSparse"'];
    writeFileSync(temp('a.vmdk'), `${[...lines, `RW ${MIB / 512} VMFSSPARSE "a-delta.vmdk"`, '# End'].join('\n')}\n`);
    const judge = (missing: number) => {
      writeFileSync(temp('a-delta.vmdk'), extent.subarray(0, extent.length - missing));
      return judgeCutImage({ path: temp('a.vmdk'), format: 'vmdk', content, story: `${missing} bytes are missing` });
    };
    assert.equal(await judge(0), 'whole');
    for (const [missing, what] of [
      [1, 'grain table at byte 3580 leads to byte 23040'],
      [8 * 512 + 1, 'grain directory at byte 2048 leads to byte 18944'],
      [40 * 512 + 511, 'grain directory goes on to byte 2052'],
    ] as const)
      assert.match(await judge(missing), new RegExp(`a-delta\\.vmdk: is cut short or damaged: its ${what}`));
  });

  it('ends at once when it is cancelled', async () => {
    await createImage(temp('a.vdi'), { format: 'vdi', size: '200G' });
    const root = { handle: await fs.open(temp('a.vdi')), volumePath: temp(''), relativePath: 'a.vdi', format: 'vdi' as const };
    await using image = await openImageFiles({ ...root, isGuess: false }, { libc: loadLibc() });
    const signal = AbortSignal.abort(new DiskliftError('Cancelled', 'enough'));
    const looking = requireNotTruncated(image, { libc: loadLibc(), readLimit: createLimiter(1), signal });
    await assert.rejects(looking, failsWith('Cancelled', /enough/));
  });
});
