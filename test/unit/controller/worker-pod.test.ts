import assert from 'node:assert/strict';
import { problemOfEvents, workerPodOf } from '../../../src/controller/worker-pod.ts';
import type { FleetPodObject } from '../../../src/stores/kubernetes/client/fleet-objects.ts';
import type { EventObject } from '../../../src/stores/kubernetes/client/objects.ts';

type Status = NonNullable<FleetPodObject['status']>;
type State = NonNullable<NonNullable<Status['containerStatuses']>[number]['state']>;

const METADATA = { name: 'worker-0', namespace: 'vms', uid: 'u', resourceVersion: '1' };
const withState = (state: State, phase = 'Pending'): Status => ({ phase, containerStatuses: [{ name: 'disklift', state }] });

const ROWS: readonly [sentence: string, status: Status, problem: string | undefined][] = [
  ['nothing about a pod that has just been made', { phase: 'Pending' }, undefined],
  ['nothing about a container that is being created', withState({ waiting: { reason: 'ContainerCreating' } }), undefined],
  ['nothing about a pod that runs', withState({ running: {} }, 'Running'), undefined],
  ['nothing about a pod that has succeeded', withState({ terminated: { exitCode: 0 } }, 'Succeeded'), undefined],
  [
    'that no node takes the pod',
    { phase: 'Pending', conditions: [{ type: 'PodScheduled', status: 'False', message: '0/3 nodes:\n  too few CPUs' }] },
    'Unschedulable: no node can run the pod: 0/3 nodes: too few CPUs',
  ],
  ...['ErrImagePull', 'ImagePullBackOff', 'InvalidImageName'].map(
    (reason) =>
      [
        `${reason} of the image`,
        withState({ waiting: { reason, message: '401 Unauthorized' } }),
        `ImagePullFailed: ${reason}: 401 Unauthorized`,
      ] as [string, Status, string],
  ),
  [
    'a Secret that the container misses',
    withState({ waiting: { reason: 'CreateContainerConfigError', message: 'secret "x" not found' } }),
    'ContainerFailed: CreateContainerConfigError: secret "x" not found',
  ],
  [
    'the exit code of a failure',
    withState({ terminated: { exitCode: 1, reason: 'Error' } }, 'Failed'),
    'WorkerFailed: the pod failed: Error, exit code 1',
  ],
  [
    'the signal of a failure',
    withState({ terminated: { exitCode: 137, signal: 9, reason: 'OOMKilled' } }, 'Failed'),
    'WorkerFailed: the pod failed: OOMKilled, signal 9',
  ],
  [
    'why a pod failed whose container never ran',
    { phase: 'Failed', reason: 'Evicted', message: 'The node was low on memory.' },
    'WorkerFailed: the pod failed: Evicted, The node was low on memory.',
  ],
  ['a failure without any reason', { phase: 'Failed' }, 'WorkerFailed: the pod failed'],
];

describe('a pod of an export', () => {
  for (const [sentence, status, problem] of ROWS)
    it(`shows ${sentence}`, () => {
      const found = workerPodOf({ metadata: METADATA, spec: { containers: [] }, status }, 0);
      assert.equal(found.problem && `${found.problem.reason}: ${found.problem.message}`, problem);
      assert.equal(found.phase, status.phase);
    });

  it('is lost when it has not ended a minute after its grace period', () => {
    const deletionTimestamp = '2026-01-01T00:00:00Z';
    const isLost = (metadata: object, phase: string, seconds: number) =>
      workerPodOf(
        { metadata: { ...METADATA, ...metadata }, spec: { containers: [] }, status: { phase } },
        Date.parse(deletionTimestamp) + 1000 * seconds,
      ).isLost;
    assert.deepEqual([isLost({ deletionTimestamp }, 'Running', 59), isLost({ deletionTimestamp }, 'Running', 60)], [false, true]);
    assert.deepEqual([isLost({ deletionTimestamp }, 'Pending', 60), isLost({ deletionTimestamp }, 'Failed', 60)], [true, false]);
    assert.equal(isLost({}, 'Running', 3600), false);
  });

  it('is pending without a status, and shows its node', () => {
    assert.deepEqual(workerPodOf({ metadata: METADATA, spec: { containers: [], nodeName: 'node-a' } }, 0), {
      name: 'worker-0',
      uid: 'u',
      phase: 'Pending',
      isLost: false,
      nodeName: 'node-a',
      problem: undefined,
    });
  });
});

describe('the events of a pod, a Job and a claim', () => {
  const eventOf = (reason: string, fields: Partial<EventObject> = {}): EventObject => ({
    metadata: METADATA,
    type: 'Warning',
    reason,
    message: `${reason}\n of it`,
    lastTimestamp: '2026-01-01T00:00:05Z',
    ...fields,
  });

  for (const [reason, word] of [
    ['FailedAttachVolume', 'VolumeAttachFailed'],
    ['FailedMount', 'VolumeMountFailed'],
    ['FailedMapVolume', 'VolumeMountFailed'],
    ['FailedScheduling', 'Unschedulable'],
    ['FailedCreate', 'PodRefused'],
    ['FailedCreatePodSandBox', 'ContainerFailed'],
    ['ProvisioningFailed', 'CloneFailed'],
  ] as const)
    it(`say ${word} for ${reason}`, () => {
      assert.deepEqual(problemOfEvents([eventOf(reason)]), { reason: word, message: `${reason} of it` });
    });

  it('say that a quota is exceeded, by whatever reason', () => {
    const message = 'Error creating: pods "x" is forbidden: exceeded quota: cpu, requested: 1';
    assert.deepEqual(problemOfEvents([eventOf('FailedCreate', { message })]), { reason: 'QuotaExceeded', message });
  });

  it('say the latest of several, by any of the three times that events have', () => {
    const { lastTimestamp: _, ...later } = eventOf('FailedAttachVolume', { eventTime: '2026-01-01T00:00:07.000001Z' });
    const { lastTimestamp: __, ...made } = eventOf('FailedMapVolume', {
      metadata: { ...METADATA, creationTimestamp: '2026-01-01T00:00:06Z' },
    });
    assert.equal(problemOfEvents([eventOf('FailedMount'), later, made])?.reason, 'VolumeAttachFailed');
    assert.equal(problemOfEvents([made, eventOf('FailedMount')])?.reason, 'VolumeMountFailed');
  });

  it('say nothing when they are of type Normal, of unknown reasons, or none', () => {
    assert.equal(problemOfEvents([]), undefined);
    assert.equal(problemOfEvents([eventOf('FailedMount', { type: 'Normal' }), eventOf('Unhealthy')]), undefined);
  });
});
