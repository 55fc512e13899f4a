/** Changes between two snapshots of a CSI driver, and the data of one, for a worker whose volume is a clone. */

import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import type { NetworkAccess } from '../network/destination-policy.ts';
import type { BaseImage } from '../receipts/contract.ts';
import type { ReceiptPoints } from '../receipts/receipt.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import type { TrackedSource } from '../sources/changed/contract.ts';
import { openWithoutMap } from './changes-row.ts';
import type { CommandContext } from './context.ts';
import type { OwnChanges } from './receipts.ts';
import { openListed, openTracked, type SnapshotEnvironment, type WorkerSnapshot } from './snapshot-metadata.ts';
import type { WorkerRole } from './worker.ts';

interface ChangesEnvironment {
  worker?: WorkerRole | undefined;
  /** Where services of the cluster may be. */
  clusterAccess?: NetworkAccess | undefined;
  access: NetworkAccess;
  clock: Clock;
  context: CommandContext;
}

export interface SnapshotChanges extends OwnChanges {
  /** Opens the disk for a full image: where the driver lists what has data, nothing else is read. */
  openFull(open: (signal: AbortSignal) => Promise<TrackedSource>, signal: AbortSignal): Promise<TrackedSource>;
}

/** @returns undefined where the SnapshotMetadata service has no part in the export */
export function snapshotChanges(request: DiskExport, environment: ChangesEnvironment): SnapshotChanges | undefined {
  const metadata = environment.worker?.metadata;
  const { changes } = request.spec.incremental ?? {};
  if (metadata === undefined || changes === 'BlockHashes') return undefined;
  // With Auto, block hashes do as well.
  if (metadata.kind === 'none') return changes === 'SnapshotMetadata' ? withoutService(metadata.problem) : undefined;
  const { clusterAccess, access, clock, context } = environment;
  const { snapshot } = metadata;
  const own: SnapshotEnvironment = {
    namespace: request.metadata.namespace,
    snapshot,
    access: clusterAccess ?? access,
    clock,
    warn: context.warn,
  };
  const { service: _, ...point } = snapshot;
  const points: ReceiptPoints = isKept(request) ? { snapshot: point } : {};
  return {
    from: 'SnapshotMetadata',
    openFull: (open, signal) => openListed(open, own, signal),
    async open({ open, base }, signal) {
      const opening = base === undefined ? openListed(open, own, signal) : openTracked(open, handleOf(base, snapshot), own, signal);
      return { source: await opening, savePoints: async () => points };
    },
  };
}

/** A full image is possible, and says why it is no incremental one. */
function withoutService(problem: string): SnapshotChanges {
  return {
    from: 'SnapshotMetadata',
    openFull: (open, signal) => open(signal),
    open: (question, signal) => openWithoutMap(question, problem, signal),
  };
}

const UNKNOWN = '(unknown)';

/** Whether the snapshot is still there when another image counts from it. */
function isKept({ spec: { source, incremental } }: DiskExport): boolean {
  return source.volumeSnapshot !== undefined || (source.persistentVolumeClaim !== undefined && incremental?.tracker !== undefined);
}

/**
 * A driver need not notice that two snapshots are of two volumes, as of claims that had the same name.
 * @throws DiskliftError `ChangesMissing` for a base without a snapshot of the same volume
 */
function handleOf({ location, points: { snapshot } }: BaseImage, { driver, volume }: WorkerSnapshot): string {
  if (snapshot === undefined) throw new DiskliftError('ChangesMissing', `the base ${location} was not made from a snapshot that was kept`);
  if (snapshot.driver !== driver)
    throw new DiskliftError(
      'ChangesMissing',
      `the base ${location} is of a snapshot of the driver ${snapshot.driver}, and this one of ${driver}`,
    );
  if (snapshot.volume !== volume)
    throw new DiskliftError(
      'ChangesMissing',
      `the base ${location} is of a snapshot of the volume ${snapshot.volume ?? UNKNOWN}, and this one of ${volume ?? UNKNOWN}`,
    );
  return snapshot.handle;
}
