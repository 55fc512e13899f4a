/** One text that tells two virtual images apart: resuming one transfer with another image would mix their bytes. */

import type { Layout } from '../qcow2/write/layout.ts';
import type { SourceIdentity } from '../sources/contract.ts';

/** Ranges that are hashed at a time. */
const BATCH = 4096;

/** SHA-256, in hex, of the options, the identity and every range of data. */
export function fingerprintOf(layout: Layout, identity: SourceIdentity): string {
  // Loaded when it is needed: a command that resumes nothing starts sooner without it.
  const hash = process.getBuiltinModule('node:crypto').createHash('sha256');
  const facts = Object.entries(identity).sort(([a], [b]) => (a < b ? -1 : 1));
  const { clusterSizeBytes, refcountBits, version, dataFile } = layout.options;
  hash.update(JSON.stringify([clusterSizeBytes, refcountBits, version, dataFile?.path, dataFile?.raw, layout.map.diskSizeBytes, facts]));
  // This comes last, so that the fingerprints of converted images do not change between versions.
  if (layout.isVerbatim) hash.update('verbatim');
  const batch = Buffer.alloc(BATCH * 16);
  let used = 0;
  for (const range of layout.map.ranges()) {
    if (range.kind !== 'data') continue;
    used = batch.writeDoubleBE(range.firstCluster, used);
    used = batch.writeDoubleBE(range.clusterCount, used);
    if (used < batch.length) continue;
    hash.update(batch);
    used = 0;
  }
  return hash.update(batch.subarray(0, used)).digest('hex');
}
