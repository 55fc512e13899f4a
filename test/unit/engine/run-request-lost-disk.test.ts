/** An export that another process restarts after the volume has lost a disk. */

import assert from 'node:assert/strict';
import type { ExportPlan } from '../../../src/engine/contract.ts';
import { runRequest } from '../../../src/engine/run-request.ts';
import type { DiskExportStatus, DiskStatus } from '../../../src/resource/disk-export.ts';
import { requestRun } from '../../helpers/request-run.ts';

const ARRIVED: DiskStatus = { path: 'a.qcow2', phase: 'Succeeded', virtualBytes: 1, imageBytes: 1, sentBytes: 1, attempts: 1 };

/** The disks of a volume on which only a.qcow2 is left, which has arrived. */
async function runAgain(other: DiskStatus): Promise<DiskExportStatus> {
  const parts = {
    plan: async (): Promise<ExportPlan> => ({
      checksum: 'None',
      backoffLimit: 0,
      disks: [
        {
          path: 'a.qcow2',
          qcow2: { clusterSizeBytes: 65_536, version: 3, refcountBits: 16 },
          zeroDetection: 'content',
          openSource: () => assert.fail('it has arrived'),
          createTarget: () => assert.fail('it has arrived'),
        },
      ],
    }),
    watchers: [],
  };
  const end = await runRequest(requestRun(parts, { phase: 'Streaming', disks: [ARRIVED, other] }));
  return end.status;
}

describe('a request that runs again after a disk of its volume was lost', () => {
  for (const phase of ['Pending', 'Streaming', 'Failed'] as const)
    it(`fails, and names a disk that was ${phase}`, async () => {
      const status = await runAgain({ path: 'b.qcow2', phase, sentBytes: 5, attempts: 1 });
      assert.equal(status.phase, 'Failed');
      assert.match(status.conditions?.find(({ type }) => type === 'Finished')?.message ?? '', /^b\.qcow2: was a disk of this export/);
      assert.deepEqual(
        status.disks?.map(({ path }) => path),
        ['a.qcow2', 'b.qcow2'],
      );
    });

  it('succeeds when the disk has arrived before, and keeps its receipt and its numbers in the status', async () => {
    const gone: DiskStatus = {
      ...{ path: 'b.qcow2', format: 'QCOW2', phase: 'Succeeded', virtualBytes: 131_072, imageBytes: 393_216, sentBytes: 393_216 },
      ...{ attempts: 2, clusters: { total: 2, scanned: 2, skipped: 1, written: 1 } },
      ...{ location: 's3://backups/b', etag: '"e"', sha256: 'ab'.repeat(32), proof: 'Digest' },
    };
    const status = await runAgain(gone);
    assert.equal(status.phase, 'Succeeded');
    assert.deepEqual(status.disks?.[1], gone);
    assert.deepEqual([status.disks?.length, status.attempts, status.progress?.sentBytes], [2, 3, 393_217]);
    assert.match(status.message ?? '', /^2 disks have arrived/);
  });
});
