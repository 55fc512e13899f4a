import assert from 'node:assert/strict';
import { systemClock } from '../../../src/common/clock.ts';
import { DiskliftError } from '../../../src/common/errors.ts';
import { runRequest } from '../../../src/engine/run-request.ts';
import type { DiskExport } from '../../../src/requests/disk-export.ts';
import { NEVER } from '../../helpers/image-in-process.ts';

/** Runs a request whose plan fails. @returns the phases that its watcher received at the end */
async function endsWith(failure: Error): Promise<string[]> {
  const ends: string[] = [];
  const run = runRequest({
    request: {
      metadata: { name: 'e', generation: 1 },
      spec: { destination: { s3: { bucket: 'backups', key: 'k' } } },
    } as unknown as DiskExport,
    signal: NEVER,
    lost: NEVER,
    stopping: NEVER,
    clock: systemClock,
    random: () => 0,
    warn: () => {},
    plan: () => Promise.reject(failure),
    watchers: [{ observer: {}, end: (phase) => ends.push(phase) }],
    confirm: async () => {},
    writeStatus: async () => {},
    setCleanupPending: async () => {},
    isGoing: () => false,
    note: async () => {},
  });
  if (failure instanceof DiskliftError) await run;
  else await assert.rejects(run, failure);
  return ends;
}

describe('the watchers of a request', () => {
  it('receive its end once when its plan fails', async () => {
    assert.deepEqual(await endsWith(new DiskliftError('SourceNotFound', 'no disk')), ['Failed']);
  });

  it('receive an end once when a bug of this program ends the run, so that no export stays active', async () => {
    assert.deepEqual(await endsWith(new TypeError('a mistake')), ['Pending']);
  });
});
