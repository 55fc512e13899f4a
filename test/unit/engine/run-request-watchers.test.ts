import assert from 'node:assert/strict';
import { DiskliftError } from '../../../src/common/errors.ts';
import { runRequest } from '../../../src/engine/run-request.ts';
import { requestRun } from '../../helpers/request-run.ts';

/** Runs a request whose plan fails. @returns the phases that its watcher received at the end */
async function endsWith(failure: Error): Promise<string[]> {
  const ends: string[] = [];
  const run = runRequest(
    requestRun({ plan: () => Promise.reject(failure), watchers: [{ observer: {}, end: (phase) => ends.push(phase) }] }),
  );
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
