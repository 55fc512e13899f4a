/** How a release is stopped: what is asked for, what is waited for, and what hinders. */

import assert from 'node:assert/strict';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { refusedError, unusableError } from '../../../../src/stores/kubernetes/client/api-failure.ts';
import type { PodObject } from '../../../../src/stores/kubernetes/client/objects.ts';
import { stopWorkloads } from '../../../../src/stores/kubernetes/store/stop-workloads.ts';
import { createTestClock, type TestClock } from '../../../helpers/test-clock.ts';

const LIMIT_MS = 45_000;

function pod(name: string, phase: string): PodObject {
  const metadata = { name, namespace: 'vms', uid: name, resourceVersion: '1' };
  return { metadata, spec: { containers: [] }, status: { phase } };
}

const refusal = (status: number) => refusedError({ what: 'patch', status, body: '' }, 0);

interface Run {
  looks: (PodObject[] | Error)[];
  patches?: (Error | undefined)[];
  cronJobs?: string[];
  /** Names of the Jobs that the CronJobs have made. */
  made?: string[];
}

describe('the workloads of a release', () => {
  let clock: TestClock;
  let stop: AbortController;
  let asked: string[];

  beforeEach(() => {
    clock = createTestClock();
    stop = new AbortController();
    asked = [];
  });

  /** Repeats the last answer when the answers run out. */
  function run({ looks, patches = [undefined], cronJobs = [], made = [] }: Run) {
    function answerOf<T>(answers: T[]): T {
      return (answers.length > 1 ? answers.shift() : answers[0]) as T;
    }
    const patch =
      (kind: string) =>
      async (target: { namespace: string; name: string }, { patch, subresource }: object & PatchFacts) => {
        asked.push(`${kind}${subresource ? `/${subresource}` : ''} ${target.namespace}/${target.name} ${JSON.stringify(patch)}`);
        const answer = answerOf(patches);
        if (answer !== undefined) throw answer;
        return { metadata: { ...target, uid: '', resourceVersion: '' } };
      };
    return stopWorkloads({
      api: {
        deployments: { patch: patch('deployments') },
        jobs: {
          patch: patch('jobs'),
          async list(namespace, { labelSelector } = {}) {
            asked.push(`jobs ${String(namespace)} ${labelSelector}`);
            return { resourceVersion: '1', items: made.map((name) => pod(name, 'Running')) };
          },
        },
        cronJobs: { patch: patch('cronjobs') },
        pods: {
          async list(namespace, { labelSelector } = {}) {
            asked.push(`pods ${String(namespace)} ${labelSelector}`);
            const answer = answerOf(looks);
            if (answer instanceof Error) throw answer;
            return { resourceVersion: '1', items: answer };
          },
        },
      },
      namespace: 'vms',
      deployments: ['fedora'],
      jobs: ['nightly'],
      cronJobs,
      labelSelector: 'a=b',
      limitMs: LIMIT_MS,
      clock,
      signal: stop.signal,
    });
  }

  it('are asked to stop once, and their pods are looked at until none is left', async () => {
    assert.equal(await run({ looks: [[pod('a', 'Running'), pod('b', 'Pending')], [pod('a', 'Running')], []] }), undefined);
    assert.deepEqual(asked, [
      'deployments/scale vms/fedora {"spec":{"replicas":0}}',
      'jobs vms/nightly {"spec":{"suspend":true}}',
      ...new Array(3).fill('pods vms a=b'),
    ]);
    assert.deepEqual(clock.delaysMs, [1000, 1000]);
  });

  it('have stopped when only pods are there that have ended', async () => {
    assert.equal(await run({ looks: [[pod('a', 'Succeeded'), pod('b', 'Failed')]] }), undefined);
  });

  it('are suspended with the Jobs that a CronJob has made, after the CronJob', async () => {
    assert.equal(await run({ looks: [[]], cronJobs: ['nights'], made: ['nights-1', 'nights-2'] }), undefined);
    const suspended = ['cronjobs vms/nights', 'jobs vms/nights-1', 'jobs vms/nights-2'].map((what) => `${what} {"spec":{"suspend":true}}`);
    assert.deepEqual(asked.slice(2), [suspended[0], 'jobs vms a=b', ...suspended.slice(1), 'pods vms a=b']);
  });

  it('need not be there', async () => {
    assert.equal(await run({ looks: [[]], patches: [refusal(404)] }), undefined);
    assert.deepEqual(clock.delaysMs, []);
  });

  it('are asked again where that has failed, and only those', async () => {
    const patches = [unusableError('patch', 'no answer'), undefined, refusal(403), undefined];
    assert.equal(await run({ looks: [[]], patches }), undefined);
    assert.deepEqual(
      asked.map((each) => each.split(' ')[0]),
      ['deployments/scale', 'jobs', 'deployments/scale', 'deployments/scale', 'pods'],
    );
  });

  it('are given up with their pods’ names when the time is over', async () => {
    const startMs = clock.monotonicMs();
    assert.equal(await run({ looks: [[pod('lost', 'Running'), pod('done', 'Succeeded')]] }), 'still there: lost');
    assert.equal(clock.monotonicMs() - startMs, LIMIT_MS);
  });

  it('are given up with what the API server has said', async () => {
    assert.match((await run({ looks: [[]], patches: [refusal(403)] })) ?? '', /does not allow it/);
    assert.match((await run({ looks: [refusal(403)] })) ?? '', /does not allow it/);
  });

  it('are left alone when the process is to end', async () => {
    stop.abort(new DiskliftError('Cancelled', 'cancelled by SIGTERM'));
    await assert.rejects(run({ looks: [unusableError('list', 'ended')] }), { code: 'Cancelled' });
  });
});

interface PatchFacts {
  patch: object;
  subresource?: string;
}
