/**
 * Snapshots that stay when their export has ended: the CSI driver may need the snapshot of the newest image to find
 * what has changed since then. Pure.
 *
 * 1. The VolumeSnapshot of an export with a tracker has the label of the tracker from the beginning. Until the export
 *    has succeeded, the export owns it, so every other end removes it.
 * 2. After success the controller removes the older snapshots of the same tracker.
 * 3. Then it hands the new one from the export to the claim: the garbage collector removes it with the claim.
 */

import { createHash } from 'node:crypto';
import type { DiskExport } from '../../resource/disk-export.ts';
import type { VolumeSnapshotObject } from '../../stores/kubernetes/client/fleet-objects.ts';
import type { KubeObject } from '../../stores/kubernetes/client/objects.ts';
import type { Action } from '../decision.ts';
import type { Observed } from '../observed.ts';

/** Its value is a digest of claim, destination and tracker. */
export const TRACKER_LABEL = 'disklift.dev/tracker';

/** The tracker as the request has it, for people. */
const TRACKER_ANNOTATION = 'disklift.dev/tracker';

/** @returns undefined for an export whose snapshot is not kept */
export function trackerOf({ metadata, spec }: DiskExport): string | undefined {
  const { source, destination, incremental } = spec;
  const { claimName } = source.persistentVolumeClaim ?? {};
  if (claimName === undefined || incremental?.tracker === undefined || incremental.changes === 'BlockHashes') return undefined;
  // A tracker with the name of its export in it is the export's own.
  const named = /\{(name|uid)\}/.test(incremental.tracker) ? metadata.name : '';
  const place = destination.s3 === undefined ? [originOf(destination.http?.url)] : [destination.s3.endpoint, destination.s3.bucket];
  return createHash('sha256')
    .update(JSON.stringify([claimName, incremental.tracker, named, ...place]))
    .digest('hex')
    .slice(0, 40);
}

/** @returns what marks the snapshot of an export with a tracker */
export function trackerMarks(request: DiskExport) {
  const tracker = trackerOf(request);
  if (tracker === undefined) return undefined;
  return { labels: { [TRACKER_LABEL]: tracker }, annotations: { [TRACKER_ANNOTATION]: request.spec.incremental?.tracker ?? '' } };
}

function originOf(url = ''): string {
  return /^[a-z]+:\/\/[^/?#]*/i.exec(url)?.[0] ?? '';
}

/** @returns whether the snapshot stays when its export has succeeded */
export function hasTracker(snapshot: KubeObject): boolean {
  return snapshot.metadata.labels?.[TRACKER_LABEL] !== undefined;
}

/** @returns the steps for a snapshot that stays; undefined for one that goes with its export */
export function keepSnapshot({ request, kept }: Observed, snapshot: VolumeSnapshotObject): Action[] | undefined {
  if (request.status?.phase !== 'Succeeded' || kept?.claim === undefined || !hasTracker(snapshot)) return undefined;
  if (snapshot.metadata.deletionTimestamp !== undefined) return undefined;
  const isOlder = ({ metadata }: KubeObject) => (metadata.creationTimestamp ?? '') <= (snapshot.metadata.creationTimestamp ?? '');
  const older = kept.earlier.filter((each) => isOlder(each) && each.metadata.uid !== snapshot.metadata.uid);
  return [
    ...older
      .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
      .map((object) => ({ kind: 'remove', resource: 'volumeSnapshots', object }) as const),
    { kind: 'keep-snapshot', object: snapshot, claim: kept.claim },
  ];
}
