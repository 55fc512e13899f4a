/** The role of a process that `disklift controller` has started for one export. */

import { DiskliftError } from '../common/errors.ts';
import type { Config } from '../config/load-config.ts';
import { parseWorkerMetadata, type WorkerMetadata } from './snapshot-metadata.ts';

export interface WorkerRole {
  /**
   * Live: the volumes are the claims themselves, which other pods may write to. PointInTime: the volumes are clones of
   * snapshots, which only this process uses.
   */
  state: 'Live' | 'PointInTime';
  /** Claim of each volume of a virtual machine, by the volume's name. */
  claimOf: ReadonlyMap<string, string>;
  /** File of vm.yaml. Absent where the export has none. */
  manifestFile?: string | undefined;
  /** Present where the volume is a clone of a snapshot, or where it says why an incremental image has no snapshot. */
  metadata?: WorkerMetadata | undefined;
  /** UID that the VirtualMachineBackup had when the export began. Absent for other sources. */
  backupUid?: string | undefined;
}

type WorkerConfig = Pick<Config, 'worker' | 'claimOf' | 'manifestFile' | 'snapshotMetadata' | 'backupUid' | 'once'>;

/**
 * @returns undefined for a process that the controller has not started, and for one that only cleans up
 * @throws DiskliftError `InvalidRequest` for settings that contradict each other
 */
export function workerRole({ worker, claimOf, manifestFile, snapshotMetadata, backupUid, once }: WorkerConfig): WorkerRole | undefined {
  if (worker !== '' && once === '') throw new DiskliftError('InvalidRequest', 'a worker runs one export: --worker needs --once');
  if (worker !== 'Live' && worker !== 'PointInTime') return undefined;
  const metadata = parseWorkerMetadata(snapshotMetadata);
  return {
    state: worker,
    claimOf: new Map(claimOf.map(claimEntry)),
    ...(manifestFile === '' ? {} : { manifestFile }),
    ...(metadata === undefined ? {} : { metadata }),
    ...(backupUid === '' ? {} : { backupUid }),
  };
}

function claimEntry(text: string): [volume: string, claim: string] {
  const [volume = '', claim = '', ...others] = text.split('=');
  if (volume === '' || claim === '' || others.length > 0)
    throw new DiskliftError('InvalidRequest', `claimOf: ${JSON.stringify(text)} is not VOLUME=CLAIM`);
  return [volume, claim];
}
