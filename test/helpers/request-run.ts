/** A run of one request whose store accepts everything. */

import { systemClock } from '../../src/common/clock.ts';
import type { RequestRun } from '../../src/engine/run-request.ts';
import type { DiskExport, DiskExportStatus } from '../../src/resource/disk-export.ts';
import { NEVER } from './image-in-process.ts';

/** @param status of an earlier run */
export function requestRun(parts: Pick<RequestRun, 'plan' | 'watchers'>, status?: DiskExportStatus): RequestRun {
  return {
    request: {
      metadata: { name: 'e', generation: 1 },
      spec: { source: { persistentVolumeClaim: { claimName: 'root' } }, destination: { s3: { bucket: 'backups', key: 'k' } } },
      ...(status === undefined ? {} : { status }),
    } as unknown as DiskExport,
    signal: NEVER,
    lost: NEVER,
    stopping: NEVER,
    clock: systemClock,
    random: () => 0,
    warn: () => {},
    assertHeld: async () => {},
    writeStatus: async () => {},
    setCleanupPending: async () => {},
    isTerminating: () => false,
    recordEvent: async () => {},
    ...parts,
  };
}
