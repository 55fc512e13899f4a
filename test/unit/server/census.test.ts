import assert from 'node:assert/strict';
import type { ExportView } from '../../../src/server/export-view.ts';
import { censusOf } from '../../../src/server/query-exports.ts';

const view = (facts: Partial<ExportView>) => ({ namespace: 'vms', claim: 'root', isUnclaimed: false, ...facts }) as ExportView;
const CLAIMS = new Set(['root']);

describe('a census of exports', () => {
  it('counts those that wait and are served here, and all that are unclaimed', () => {
    const census = censusOf(
      [
        view({ phase: 'Pending' }),
        view({ phase: 'Pending', claim: 'data' }),
        view({ phase: 'Pending', isUnclaimed: true }),
        view({ phase: 'Pending', isUnclaimed: true, claim: 'data' }),
        view({ phase: 'Streaming' }),
        view({ phase: 'Failed', completionTime: '2026-01-01T00:00:00Z' }),
      ],
      CLAIMS,
    );
    assert.deepEqual(census, { pending: 1, unclaimed: 2, successes: [] });
  });

  it('has the time of each good export of a claim that is served here', () => {
    const completionTime = '2026-01-01T00:00:00Z';
    const { successes } = censusOf(
      [view({ phase: 'Succeeded', completionTime }), view({ phase: 'Succeeded', completionTime, claim: 'data' })],
      CLAIMS,
    );
    assert.deepEqual(successes, [{ namespace: 'vms', claim: 'root', timeMs: Date.UTC(2026, 0, 1) }]);
  });
});
