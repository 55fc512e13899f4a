/** An export that another process restarts after the volume has lost a disk. */

import assert from 'node:assert/strict';
import { systemClock } from '../../../src/common/clock.ts';
import { runRequest } from '../../../src/engine/run-request.ts';
import type { DiskExport, DiskExportStatus, DiskStatus } from '../../../src/requests/disk-export.ts';
import { NEVER } from '../../helpers/image-in-process.ts';

const ARRIVED: DiskStatus = { path: 'a.qcow2', phase: 'Succeeded', virtualBytes: 1, imageBytes: 1, sentBytes: 1, attempts: 1 };

/** The disks of a volume on which only a.qcow2 is left, which has arrived. */
async function runAgain(other: DiskStatus): Promise<DiskExportStatus> {
  const end = await runRequest({
    request: {
      metadata: { name: 'e', generation: 1 },
      spec: { destination: { s3: { bucket: 'backups', key: 'k' } } },
      status: { phase: 'Streaming', disks: [ARRIVED, other] },
    } as unknown as DiskExport,
    signal: NEVER,
    lost: NEVER,
    stopping: NEVER,
    clock: systemClock,
    random: () => 0,
    warn: () => {},
    plan: async () => ({
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
    confirm: async () => {},
    writeStatus: async () => {},
    setCleanupPending: async () => {},
    isGoing: () => false,
    note: async () => {},
  });
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

  it('succeeds when the disk has arrived before', async () => {
    const status = await runAgain({ ...ARRIVED, path: 'b.qcow2' });
    assert.equal(status.phase, 'Succeeded');
  });
});
