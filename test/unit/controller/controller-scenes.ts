/** The scenes of the controller's tests with failures, and the end of each. */

import { putClaim, putExport, putSidecar, putStorage, putVm, putWriter } from '../../helpers/fleet/fleet-objects.ts';
import type { Scene } from '../../helpers/fleet/fleet-scene.ts';
import type { MemoryFleet } from '../../helpers/fleet/memory-fleet.ts';

export interface ExpectedScene extends Scene {
  /** The status of the export at its end: phase, reason, consistency. */
  end: string;
  /** A part of the message. */
  words?: RegExp;
  /** Kinds of the objects that the controller creates, one word an object. */
  creates: string;
  /** Objects that stay beside those of the users, as patterns of their names. */
  stays?: RegExp;
  /** Requests of the whole export, without the lists and watches of the caches. */
  maxRequests?: number;
}

const ACCESS = 'serviceAccounts roleBindings';

function inUse(fleet: MemoryFleet, parts: Parameters<typeof putExport>[1] = {}, policy: 'Delete' | 'Retain' = 'Delete'): void {
  putStorage(fleet, policy);
  putClaim(fleet);
  putWriter(fleet, 'root');
  putExport(fleet, parts);
}

const SHORT = { mode: 'Auto', timeoutSeconds: 30 };

export const LIVE: ExpectedScene = {
  name: 'a claim that nobody uses',
  setUp(fleet) {
    putClaim(fleet);
    putExport(fleet);
  },
  end: 'Succeeded Completed Offline',
  creates: `${ACCESS} jobs`,
  maxRequests: 25,
};

export const IN_USE: ExpectedScene = {
  name: 'a claim that a pod writes to',
  setUp: (fleet) => inUse(fleet),
  end: 'Succeeded Completed Crash',
  creates: `volumeSnapshots persistentVolumeClaims ${ACCESS} jobs`,
  maxRequests: 25,
};

export const RUNNING_VM: ExpectedScene = {
  name: 'a running VM with three volumes of which one cannot be exported',
  setUp(fleet) {
    putStorage(fleet);
    for (const name of ['root', 'data']) putClaim(fleet, name);
    putVm(fleet, true, ['root', 'data'], [{ name: 'scratch', emptyDisk: {} }]);
    putWriter(fleet, 'root', 'data');
    putExport(fleet, { source: { virtualMachine: { name: 'db01' } } });
  },
  end: 'Succeeded Completed Application VolumesLeftOut',
  creates: `virtualMachineSnapshots persistentVolumeClaims persistentVolumeClaims ${ACCESS} configMaps jobs`,
  maxRequests: 40,
};

export const SUCCESSES: readonly ExpectedScene[] = [
  LIVE,
  IN_USE,
  {
    name: 'a VolumeSnapshot whose claim is gone',
    setUp(fleet) {
      putStorage(fleet);
      fleet.put('volumeSnapshotContents', { metadata: { name: 'content-1' }, spec: { sourceVolumeMode: 'Block' } });
      fleet.put('volumeSnapshots', {
        metadata: { namespace: 'vms', name: 'monday' },
        spec: { source: { persistentVolumeClaimName: 'gone' } },
        status: {
          readyToUse: true,
          restoreSize: '12Gi',
          creationTime: '2025-12-31T00:00:00Z',
          boundVolumeSnapshotContentName: 'content-1',
        },
      });
      putExport(fleet, { source: { volumeSnapshot: { name: 'monday' } } });
    },
    end: 'Succeeded Completed',
    creates: `persistentVolumeClaims ${ACCESS} jobs`,
    maxRequests: 25,
  },
  {
    name: 'a stopped VM',
    setUp(fleet) {
      putClaim(fleet);
      putVm(fleet, false, ['root']);
      putExport(fleet, { source: { virtualMachine: { name: 'db01' } } });
    },
    end: 'Succeeded Completed Offline',
    creates: `${ACCESS} configMaps jobs`,
    maxRequests: 25,
  },
  RUNNING_VM,
  {
    name: 'a claim in use whose class retains snapshots and is named by the request',
    setUp: (fleet) => inUse(fleet, { snapshot: { mode: 'Auto', className: 'fast-snapshots' } }, 'Retain'),
    end: 'Succeeded Completed Crash',
    creates: `volumeSnapshots persistentVolumeClaims ${ACCESS} jobs`,
    stays: /^volumeSnapshotContents content-/,
    maxRequests: 25,
  },
  {
    name: 'a worker that is lost while its upload is open',
    plan: { workers: ['killed', 'succeeds'] },
    setUp: (fleet) => inUse(fleet),
    end: 'Succeeded Completed Crash',
    creates: `volumeSnapshots persistentVolumeClaims ${ACCESS} jobs`,
    maxRequests: 30,
  },
  {
    name: 'a claim whose sidecar began the export and is gone for good',
    setUp(fleet) {
      putClaim(fleet);
      putSidecar(fleet, 'root');
      const request = putExport(fleet);
      fleet.patch('exports', request, { status: { startTime: '2026-01-01T00:00:00Z', executor: { podName: 'sidecar', podUID: 'u' } } });
    },
    eachSecond(fleet, second) {
      for (const pod of fleet.all('pods')) if (second === 30 && pod.metadata.name === 'sidecar') fleet.remove('pods', pod);
    },
    end: 'Succeeded Completed Offline',
    creates: `${ACCESS} jobs`,
    maxRequests: 25,
  },
  {
    name: 'a quota that forbids the clone for a while',
    setUp: (fleet) => inUse(fleet),
    eachSecond(fleet, second) {
      fleet.quota = (resource) =>
        resource === 'persistentVolumeClaims' && second < 20 ? 'storage, requested: 10Gi, used: 95Gi, limited: 100Gi' : undefined;
    },
    end: 'Succeeded Completed Crash',
    creates: `volumeSnapshots persistentVolumeClaims ${ACCESS} jobs`,
    maxRequests: 45,
  },
];

export const LOST: ExpectedScene = {
  name: 'a worker that is lost again and again while its upload is open',
  plan: { workers: ['killed'] },
  setUp: LIVE.setUp,
  end: 'Failed WorkerFailed Offline',
  words: /exit code 137/,
  creates: `${ACCESS} jobs jobs`,
};

export const FAILURES: readonly ExpectedScene[] = [
  {
    name: 'a class that retains snapshots',
    setUp: (fleet) => inUse(fleet, {}, 'Retain'),
    end: 'Failed SnapshotClassRetains',
    words: /name another class in spec\.snapshot\.className/,
    creates: '',
  },
  {
    name: 'a driver without a class',
    setUp(fleet) {
      fleet.put('storageClasses', { metadata: { name: 'fast' }, provisioner: 'disks.example' });
      putClaim(fleet);
      putWriter(fleet, 'root');
      putExport(fleet);
    },
    end: 'Failed SnapshotClassNotFound',
    words: /virt-launcher-db01.*no VolumeSnapshotClass is for the driver/,
    creates: '',
  },
  {
    name: 'a snapshot that fails',
    plan: { snapshotError: 'rpc error: the pool is full' },
    setUp: (fleet) => inUse(fleet, { snapshot: SHORT }),
    end: 'Failed SnapshotFailed',
    words: /the pool is full/,
    creates: 'volumeSnapshots',
  },
  {
    name: 'a clone that never binds',
    plan: { neverBinds: true },
    setUp: (fleet) => inUse(fleet, { snapshot: SHORT }),
    end: 'Failed CloneFailed Crash',
    words: /no space left in the pool/,
    creates: `volumeSnapshots persistentVolumeClaims ${ACCESS} jobs`,
  },
  {
    name: 'a quota that forbids the snapshot',
    setUp: (fleet) => {
      fleet.quota = (resource) => (resource === 'volumeSnapshots' ? 'snapshots, requested: 1, used: 5, limited: 5' : undefined);
      inUse(fleet, { snapshot: SHORT });
    },
    end: 'Failed QuotaExceeded',
    words: /exceeded quota: snapshots/,
    creates: '',
  },
  {
    name: 'an image that cannot be pulled',
    plan: { imageError: 'registry.example: 401 Unauthorized' },
    setUp(fleet) {
      putClaim(fleet);
      putExport(fleet, { spec: { activeDeadlineSeconds: 40 } });
    },
    end: 'Failed DeadlineExceeded Offline',
    words: /401 Unauthorized/,
    creates: `${ACCESS} jobs`,
  },
  {
    name: 'a pod that never starts',
    plan: { imageError: 'registry.example: 401 Unauthorized' },
    setUp: LIVE.setUp,
    end: 'Failed ImagePullFailed Offline',
    words: /401 Unauthorized.*no pod started within 120 seconds/,
    creates: `${ACCESS} jobs`,
  },
  {
    name: 'a worker that fails before it begins',
    plan: { workers: ['exits'] },
    setUp: (fleet) => inUse(fleet),
    end: 'Failed WorkerFailed Crash',
    words: /failed before it could begin.*exit code 1/,
    creates: `volumeSnapshots persistentVolumeClaims ${ACCESS} jobs`,
  },
  {
    name: 'a destination that refuses the image',
    plan: { workers: ['refused'] },
    setUp: (fleet) => inUse(fleet),
    end: 'Failed DestinationRejected Crash',
    creates: `volumeSnapshots persistentVolumeClaims ${ACCESS} jobs`,
  },
  LOST,
  {
    name: 'a worker that is stopped again and again while its upload is open',
    plan: { workers: ['stopped'] },
    setUp: LIVE.setUp,
    end: 'Failed WorkerFailed Offline',
    words: /exit code 143/,
    creates: `${ACCESS} jobs jobs`,
  },
  {
    name: 'a worker that hangs when the export is cancelled',
    plan: { workers: ['hangs'] },
    setUp: LIVE.setUp,
    eachSecond(fleet, second) {
      if (second === 40) for (const object of fleet.all('exports')) fleet.patch('exports', object, { spec: { cancel: true } });
    },
    end: 'Cancelled Cancelled Offline',
    creates: `${ACCESS} jobs jobs`,
  },
  {
    name: 'a worker that hangs beyond the deadline',
    plan: { workers: ['hangs'] },
    setUp(fleet) {
      putClaim(fleet);
      putExport(fleet, { spec: { activeDeadlineSeconds: 30 } });
    },
    end: 'Failed DeadlineExceeded Offline',
    creates: `${ACCESS} jobs jobs`,
  },
  {
    name: 'a VM that does not exist',
    setUp: (fleet) => void putExport(fleet, { source: { virtualMachine: { name: 'db01' } }, snapshot: SHORT }),
    end: 'Failed VirtualMachineNotFound',
    words: /no VirtualMachine db01.*not ready within 30 seconds/,
    creates: '',
  },
];
