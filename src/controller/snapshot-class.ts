/** Chooses the VolumeSnapshotClass for a claim. Pure. */

import type { ClaimObject, StorageClassObject, VolumeSnapshotClassObject } from '../stores/kubernetes/client/fleet-objects.ts';
import type { SnapshotClassChoice } from './observed.ts';

export interface ClassFacts {
  claim: ClaimObject;
  storageClass: StorageClassObject | undefined;
  /** All classes of the cluster; undefined when the cluster has no snapshots at all. */
  classes: readonly VolumeSnapshotClassObject[] | undefined;
  /** The class that the request names. */
  className: string | undefined;
}

const PROVISIONER = 'volume.kubernetes.io/storage-provisioner';
const IS_DEFAULT = 'snapshot.storage.kubernetes.io/is-default-class';

/** The advice of every message: the export can do without a snapshot. */
const ADVICE = 'spec.snapshot.mode Never exports the claim as it is once nobody writes to it';

/** A class that keeps its snapshots is used only when the request names it: each export would leave one behind. */
export function chooseSnapshotClass({ claim, storageClass, classes, className }: ClassFacts): SnapshotClassChoice {
  const { name } = claim.metadata;
  if (classes === undefined) return { kind: 'none', message: `the cluster has no VolumeSnapshots (their CRDs are missing); ${ADVICE}` };
  const driver = claim.metadata.annotations?.[PROVISIONER] ?? storageClass?.provisioner;
  if (className !== undefined) return named(className, driver, classes);
  const fitting = classes.filter((each) => each.driver === driver);
  const [chosen, ...others] = preferred(fitting);
  if (chosen === undefined)
    return { kind: 'none', message: `no VolumeSnapshotClass is for the driver ${driver ?? '(unknown)'} of the claim ${name}; ${ADVICE}` };
  if (others.length > 0) {
    const names = [chosen, ...others].map((each) => each.metadata.name).join(', ');
    return {
      kind: 'none',
      message: `several VolumeSnapshotClasses fit (${names}) and none is the default; name one in spec.snapshot.className`,
    };
  }
  if (chosen.deletionPolicy === 'Retain')
    return {
      kind: 'refused',
      reason: 'SnapshotClassRetains',
      message:
        `the VolumeSnapshotClass ${chosen.metadata.name} has deletionPolicy Retain, which would leave a snapshot behind after each export; ` +
        'name another class in spec.snapshot.className, or this one if that is wanted',
    };
  return { kind: 'chosen', name: chosen.metadata.name, driver: chosen.driver };
}

function named(className: string, driver: string | undefined, classes: readonly VolumeSnapshotClassObject[]): SnapshotClassChoice {
  const found = classes.find(({ metadata }) => metadata.name === className);
  if (found === undefined)
    return { kind: 'refused', reason: 'SnapshotClassNotFound', message: `there is no VolumeSnapshotClass ${className}` };
  if (driver !== undefined && found.driver !== driver)
    return {
      kind: 'refused',
      reason: 'SnapshotClassNotFound',
      message: `the VolumeSnapshotClass ${className} is for the driver ${found.driver}, and the claim's driver is ${driver}`,
    };
  return { kind: 'chosen', name: className, driver: found.driver };
}

/** @returns the default classes, or else all; of several without a default, those that delete their snapshots */
function preferred(classes: readonly VolumeSnapshotClassObject[]): readonly VolumeSnapshotClassObject[] {
  const defaults = classes.filter(({ metadata }) => metadata.annotations?.[IS_DEFAULT] === 'true');
  if (defaults.length > 0) return defaults;
  const deleting = classes.filter(({ deletionPolicy }) => deletionPolicy === 'Delete');
  return deleting.length > 0 ? deleting : classes;
}
