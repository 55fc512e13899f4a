/** Changes of a DiskExport that hold for one object, and for no other that has come under its name. */

import { DiskliftError } from '../../../common/errors.ts';
import { isApiFailure } from '../client/api-failure.ts';
import type { ExportObject, KubeApi, MergePatch } from '../client/contract.ts';
import { FINALIZER, hasFinalizer, isTerminating, keyOf } from './export-object.ts';

type Exports = Pick<KubeApi['exports'], 'get' | 'patch'>;

/** What comes between is somebody's edit; who finds that many is not needed here. */
const MAX_CONFLICTS = 10;

/**
 * Changes the object as it is now: what `change` makes of it is sent for that version only, and made anew when there is another.
 * @param change gives undefined where nothing is to be changed
 * @returns the object behind that; undefined when it is gone
 */
export async function changeExport(
  exports: Exports,
  object: ExportObject,
  change: (object: ExportObject) => { patch: MergePatch; subresource?: 'status' } | undefined,
): Promise<ExportObject | undefined> {
  let current = object;
  for (let conflicts = 0; ; conflicts += 1) {
    const wanted = change(current);
    if (wanted === undefined) return current;
    const { uid, resourceVersion } = current.metadata;
    const metadata = { uid, resourceVersion, ...(wanted.patch.metadata as object | undefined) };
    try {
      return await exports.patch(current.metadata, { ...wanted, patch: { ...wanted.patch, metadata } });
    } catch (error) {
      if (isApiFailure(error, 'NotFound')) return undefined;
      if (!isApiFailure(error, 'Conflict') || conflicts === MAX_CONFLICTS) throw error;
    }
    const found = await exports.get(object.metadata);
    if (found === undefined || found.metadata.uid !== uid) return undefined;
    current = found;
  }
}

/** @returns as {@link changeExport} @throws DiskliftError `Cancelled` for an object that is being deleted: it takes no finalizer any more */
export function setFinalizer(exports: Exports, object: ExportObject, isWanted: boolean): Promise<ExportObject | undefined> {
  return changeExport(exports, object, (current) => {
    if (hasFinalizer(current) === isWanted) return undefined;
    if (isWanted && isTerminating(current)) throw new DiskliftError('Cancelled', `${keyOf(current.metadata)} is being deleted`);
    const others = (current.metadata.finalizers ?? []).filter((each) => each !== FINALIZER);
    return { patch: { metadata: { finalizers: isWanted ? [...others, FINALIZER] : others } } };
  });
}
