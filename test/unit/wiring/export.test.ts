/** The plan of an export that another process has begun, after files of its volume have gone. */

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import type { DiskStatus } from '../../../src/resource/disk-export.ts';
import { validateDiskExport } from '../../../src/resource/validate.ts';
import { composePlan, type ExportEnvironment } from '../../../src/wiring/export.ts';
import { diskExport } from '../../helpers/manifest.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const arrived = (path: string): DiskStatus => ({ path, phase: 'Succeeded', sentBytes: 1, attempts: 1 });

describe('the plan of an export whose disk has arrived and is gone from the volume', () => {
  const temp = useTempDir();

  async function plan(key: string, disks: DiskStatus[]) {
    await writeFile(temp('b.raw'), Buffer.alloc(512));
    const request = validateDiskExport(diskExport('e', { s3: { bucket: 'backups', key } }));
    const environment = { volumes: new Map([['claim', temp('.')]]), context: { libc: undefined } } as unknown as ExportEnvironment;
    return composePlan({ ...request, status: { disks } }, environment);
  }

  it('has the disks that are there', async () => {
    const { disks } = await plan('{disk}', [arrived('a.raw')]);
    assert.deepEqual(
      disks.map(({ path }) => path),
      ['b.raw'],
    );
  });

  it('is refused when a disk that is there would replace the image of the one that is gone', async () => {
    await assert.rejects(plan('one', [arrived('a.raw')]), {
      code: 'InvalidRequest',
      message: /"b\.raw" and "a\.raw" would go to the same place/,
    });
  });

  it('is refused when the status cannot hold all of them', async () => {
    const gone = Array.from({ length: 64 }, (_, index) => arrived(`a${index}.raw`));
    await assert.rejects(plan('{disk}', gone), { code: 'InvalidRequest', message: /^the export has 65 disks, and one export takes 64/ });
  });
});
