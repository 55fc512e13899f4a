import assert from 'node:assert/strict';
import { systemClock } from '../../../src/common/clock.ts';
import { DiskliftError } from '../../../src/common/errors.ts';
import { serveRequests } from '../../../src/engine/serve-requests.ts';
import type { DiskExportStatus } from '../../../src/resource/disk-export.ts';
import type { RequestStore } from '../../../src/stores/contract.ts';
import { singleRequest } from '../../../src/wiring/single-request.ts';

const KEY = 'vms/once';
const unused = () => assert.fail('is not called');

describe('a process for one request', () => {
  it('writes into the status that the request is not valid, and ends', async () => {
    const written: DiskExportStatus[] = [];
    const store: RequestStore = {
      showsUnclaimed: true,
      async *watch() {
        yield KEY;
      },
      get: async () => ({ kind: 'invalid', message: 'spec.image.clusterSize: must be a power of two', status: undefined }),
      writeStatus: async (_key, status) => void written.push(status),
      claim: unused,
      setCleanupPending: unused,
      remove: unused,
      resolve: unused,
      recordEvent: unused,
    };
    const end = new AbortController();
    const onEnd = () => end.abort(new DiskliftError('ExecutorLost', 'the export has ended'));
    const single = singleRequest({ store, key: KEY, refusal: unused, clock: systemClock, onEnd });
    await serveRequests({
      ...{ store: single.store, signal: end.signal, clock: systemClock, random: Math.random, warn: unused },
      ...{ refusal: unused, plan: unused, planLeftovers: unused, observers: [], hostOf: unused, maxConcurrentExports: 1 },
    });
    assert.deepEqual(
      written.map(({ phase, message }) => [phase, message]),
      [['Failed', 'spec.image.clusterSize: must be a power of two']],
    );
    assert.throws(() => single.requireSuccess(), { code: 'InvalidRequest', isOutcome: true });
  });
});
