/** When a process learns that its namespace is being deleted, and what it asks for that. */

import assert from 'node:assert/strict';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { refusedError, unusableError } from '../../../../src/stores/kubernetes/client/api-failure.ts';
import type { NamespaceObject } from '../../../../src/stores/kubernetes/client/objects.ts';
import { untilNamespaceEnds } from '../../../../src/stores/kubernetes/store/namespace-end.ts';
import { createTestClock } from '../../../helpers/test-clock.ts';

const METADATA = { name: 'vms', uid: 'u', resourceVersion: '1' };
const THERE = { metadata: METADATA };
const GOING = { metadata: { ...METADATA, deletionTimestamp: '2026-01-01T00:00:00Z' } };

describe('the end of a namespace', () => {
  let warnings: string[];
  let asked: number;
  const stop = new AbortController();

  function wait(answers: (NamespaceObject | Error)[], isNeeded: () => boolean = () => true): Promise<boolean> {
    warnings = [];
    asked = 0;
    return untilNamespaceEnds({
      namespaces: {
        async get() {
          const answer = answers[asked] ?? assert.fail('asked once more');
          asked += 1;
          if (answer instanceof Error) throw answer;
          return answer;
        },
      },
      namespace: 'vms',
      isNeeded,
      clock: createTestClock(),
      signal: stop.signal,
      warn: (message) => warnings.push(message),
    });
  }

  it('is noticed as soon as it is asked for', async () => {
    assert.equal(await wait([THERE, THERE, GOING]), true);
    assert.equal(asked, 3);
  });

  it('is not asked for while nothing is held back', async () => {
    let looks = 0;
    const isNeeded = () => {
      looks += 1;
      return looks > 5;
    };
    assert.equal(await wait([GOING], isNeeded), true);
    assert.equal(looks, 6);
  });

  it('is asked for again when nobody answers', async () => {
    assert.equal(await wait([unusableError('get namespaces', 'no answer'), GOING]), true);
  });

  it('is not asked for again where the Role does not permit it, and that is said', async () => {
    assert.equal(await wait([refusedError({ what: 'get namespaces vms', status: 403, body: '' }, 0)]), false);
    assert.match(warnings.join(), /while an upload is open.*does not allow it/);
  });

  it('is nobody’s business any more when the process ends', async () => {
    stop.abort(new DiskliftError('ExecutorLost', 'the process ends'));
    assert.equal(await wait([]), false);
  });
});
