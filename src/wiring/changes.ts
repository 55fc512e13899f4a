/** The table of sources of changes. */

import { DiskliftError } from '../common/errors.ts';
import type { DiskExport, IncrementalSpec } from '../resource/disk-export.ts';
import type { ChangesFrom } from '../sources/changed/contract.ts';
import { BLOCK_HASHES } from './block-hash-changes.ts';
import { type ChangesRow, openWithoutMap } from './changes-row.ts';

/** The map of a VirtualMachineBackup is its source's own, and needs no row. */
const ROWS: { readonly [Key in Exclude<ChangesFrom, 'VirtualMachineBackup'>]: ChangesRow } = {
  BlockHashes: BLOCK_HASHES,
  SnapshotMetadata: notHere('the metadata of CSI snapshots needs disklift controller; state changes: BlockHashes'),
};

/** A source of changes that this process cannot reach. Full images are possible. */
function notHere(why: string): ChangesRow {
  return {
    problem: () => undefined,
    open: (question, signal) => openWithoutMap(question, why, signal),
  };
}

/** @throws DiskliftError `InvalidRequest` for a request that cannot use its source of changes */
export function changesRow(request: DiskExport, { changes }: Pick<IncrementalSpec, 'changes'>): ChangesRow {
  const row = ROWS[changes === 'Auto' ? 'BlockHashes' : changes];
  const problem = row.problem(request);
  if (problem !== undefined) throw new DiskliftError('InvalidRequest', problem);
  return row;
}
