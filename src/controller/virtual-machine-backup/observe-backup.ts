/** Looks at a VirtualMachineBackup that an export names. It is made and deleted by others: see decision 0048. */

import type { DiskExport } from '../../resource/disk-export.ts';
import type { FleetApi } from '../../stores/kubernetes/client/fleet-api.ts';
import type { SourceFacts } from '../observed.ts';
import { readVmBackup } from './read-vm-backup.ts';

export async function observeBackup(
  { metadata: { namespace } }: DiskExport,
  { name }: { name: string },
  { virtualMachineBackups }: Pick<FleetApi, 'virtualMachineBackups'>,
): Promise<SourceFacts> {
  const found = await virtualMachineBackups.get({ namespace, name });
  if (found === undefined)
    return {
      volumes: [],
      missing: { reason: 'BackupNotFound', message: `there is no VirtualMachineBackup ${name} in this namespace` },
    };
  const state = readVmBackup(found);
  if (state.state === 'over') return { volumes: [], refused: state };
  if (state.state === 'pending') return { volumes: [], missing: state };
  // KubeVirt freezes the guest unless spec.skipQuiesce is set. It reports a failed freeze only when the backup has
  // ended.
  return { volumes: [], backup: { uid: state.uid, ...(state.isUnfrozen ? { consistency: 'Crash' } : {}) } };
}
