import assert from 'node:assert/strict';
import { refusedError, unusableError } from '../../../../src/stores/kubernetes/client/api-failure.ts';
import type { PodObject } from '../../../../src/stores/kubernetes/client/objects.ts';
import { findPodWriter, podWriterOf } from '../../../../src/stores/kubernetes/store/pod-writers.ts';

const OWN = { podUID: 'own', containerName: 'disklift' };

type Change = Partial<Omit<PodObject, 'spec'>> & { spec?: Partial<PodObject['spec']> };

/** A VM's pod: its container has the claim mounted. */
function pod({ metadata, spec, status }: Change = {}): PodObject {
  return {
    metadata: { name: 'virt-launcher-fedora', namespace: 'vms', uid: 'vm', resourceVersion: '1', ...metadata },
    spec: {
      restartPolicy: 'Never',
      volumes: [{ name: 'root', persistentVolumeClaim: { claimName: 'fedora-root' } }],
      containers: [{ name: 'compute', volumeMounts: [{ name: 'root' }] }],
      ...spec,
    },
    status: status ?? { phase: 'Running', containerStatuses: [{ name: 'compute', state: {} }] },
  };
}

const ended = (exitCode: number) => ({ containerStatuses: [{ name: 'compute', state: { terminated: { exitCode } } }] });
const meta = { namespace: 'vms', resourceVersion: '1' };

const WRITERS: [string, PodObject][] = [
  ['runs', pod()],
  ['has not begun yet', pod({ status: { phase: 'Pending' } })],
  ['is about to end', pod({ metadata: { ...meta, name: 'p', uid: 'p', deletionTimestamp: '2026-01-01T00:00:00Z' } })],
  ['has the block device', pod({ spec: { containers: [{ name: 'compute', volumeDevices: [{ name: 'root', devicePath: '/dev/x' }] }] } })],
  ['prepares the pod', pod({ spec: { containers: [], initContainers: [{ name: 'init', volumeMounts: [{ name: 'root' }] }] } })],
  ['is for debugging', pod({ spec: { containers: [], ephemeralContainers: [{ name: 'debugger', volumeMounts: [{ name: 'root' }] }] } })],
  ['is in the pod of disklift', pod({ metadata: { ...meta, name: 'own', uid: 'own' } })],
  ['has disklift’s name in another pod', pod({ spec: { containers: [{ name: 'disklift', volumeMounts: [{ name: 'root' }] }] } })],
  ['will begin again', pod({ spec: { restartPolicy: 'Always' }, status: ended(0) })],
  ['has failed and will begin again', pod({ spec: { restartPolicy: 'OnFailure' }, status: ended(1) })],
  [
    'has an ephemeral claim',
    pod({
      metadata: { ...meta, name: 'fedora', uid: 'x' },
      spec: { volumes: [{ name: 'root', ephemeral: {} }], containers: [{ name: 'c', volumeMounts: [{ name: 'root' }] }] },
    }),
  ],
];

const OTHERS: [string, PodObject][] = [
  [
    'has the volume read-only',
    pod({ spec: { volumes: [{ name: 'root', persistentVolumeClaim: { claimName: 'fedora-root', readOnly: true } }] } }),
  ],
  ['has it mounted read-only', pod({ spec: { containers: [{ name: 'compute', volumeMounts: [{ name: 'root', readOnly: true }] }] } })],
  ['does not mount it', pod({ spec: { containers: [{ name: 'compute' }] } })],
  ['has another claim', pod({ spec: { volumes: [{ name: 'root', persistentVolumeClaim: { claimName: 'other' } }] } })],
  ['has ended', pod({ status: { phase: 'Running', ...ended(1) } })],
  ['has ended well', pod({ spec: { restartPolicy: 'OnFailure' }, status: { phase: 'Running', ...ended(0) } })],
  ['is of a pod that has ended', pod({ spec: { restartPolicy: 'Always' }, status: { phase: 'Succeeded' } })],
  [
    'has prepared the pod',
    pod({
      spec: { restartPolicy: 'Always', containers: [], initContainers: [{ name: 'init', volumeMounts: [{ name: 'root' }] }] },
      status: { initContainerStatuses: [{ name: 'init', state: { terminated: { exitCode: 0 } } }] },
    }),
  ],
  [
    'is disklift itself',
    pod({
      metadata: { ...meta, name: 'own', uid: 'own' },
      spec: { containers: [{ name: 'disklift', volumeDevices: [{ name: 'root', devicePath: '/d' }] }] },
    }),
  ],
];

describe('writers among the pods', () => {
  for (const [sentence, each] of WRITERS)
    it(`a container that ${sentence} is one`, () => {
      assert.match(podWriterOf([each], 'fedora-root', OWN) ?? '', /^the container \w+ of the pod [\w-]+$/);
    });
  for (const [sentence, each] of OTHERS)
    it(`a container that ${sentence} is none`, () => {
      assert.equal(podWriterOf([each], 'fedora-root', OWN), undefined);
    });

  const options = (list: () => Promise<PodObject[]>) => ({
    pods: { list: async () => ({ resourceVersion: '1', items: await list() }) },
    namespace: 'vms',
    own: OWN,
  });

  it('are named', async () => {
    const found = await findPodWriter(
      'fedora-root',
      options(async () => [pod()]),
    );
    assert.deepEqual(found, { kind: 'writer', who: 'the container compute of the pod virt-launcher-fedora' });
    assert.deepEqual(
      await findPodWriter(
        'claim',
        options(async () => []),
      ),
      { kind: 'none' },
    );
  });

  it('are not known where pods may not be listed, and for the moment where nobody answers', async () => {
    const forbidden = options(async () => {
      throw refusedError({ what: 'list pods', status: 403, body: '' }, 0);
    });
    assert.partialDeepStrictEqual(await findPodWriter('fedora-root', forbidden), { kind: 'unknown' });
    const away = options(async () => {
      throw unusableError('list pods', 'no answer');
    });
    await assert.rejects(findPodWriter('fedora-root', away), { code: 'InUseUnknown', retryable: true });
  });
});
