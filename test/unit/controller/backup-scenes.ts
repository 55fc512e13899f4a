/** Scenes of the controller's tests with failures in which the source is a VirtualMachineBackup. */

import { putExport } from '../../helpers/fleet/fleet-objects.ts';
import type { MemoryFleet } from '../../helpers/fleet/memory-fleet.ts';
import type { ExpectedScene } from './controller-scenes.ts';

const SHORT = { mode: 'Auto', timeoutSeconds: 30 };

const condition = (type: string, reason: string) => ({ type, status: 'True', reason });

const READY = {
  type: 'Full',
  checkpointName: 'monday-2026',
  endpointCert: 'PEM',
  includedVolumes: [
    {
      volumeName: 'root',
      diskTarget: 'vda',
      dataEndpoint: 'https://virt-export-monday.vms.svc/exports/root/data',
      mapEndpoint: 'https://virt-export-monday.vms.svc/exports/root/map',
    },
  ],
  conditions: [condition('Progressing', 'Backup export is ready to pull'), condition('ExportReady', 'Backup export is ready to pull')],
};

function put(fleet: MemoryFleet, status: object | undefined, spec: object = {}): void {
  fleet.put('virtualMachineBackups', {
    metadata: { namespace: 'vms', name: 'monday' },
    spec: { mode: 'Pull', pvcName: 'scratch', tokenSecretRef: 'token', source: { kind: 'VirtualMachine', name: 'db01' }, ...spec },
    ...(status === undefined ? {} : { status }),
  });
}

/** The export, beside a backup in some state. */
function exported(fleet: MemoryFleet, snapshot?: object): void {
  putExport(fleet, { source: { virtualMachineBackup: { name: 'monday' } }, ...(snapshot && { snapshot }) });
}

export const BACKUP_SUCCESSES: readonly ExpectedScene[] = [
  {
    name: 'a backup that KubeVirt serves',
    setUp(fleet) {
      put(fleet, READY);
      exported(fleet);
    },
    end: 'Succeeded Completed',
    creates: 'serviceAccounts roleBindings jobs',
    maxRequests: 25,
  },
  {
    name: 'a backup without a freeze of the guest, whose export server comes later',
    setUp(fleet) {
      put(fleet, { conditions: [condition('Initializing', 'vm db01 is not running, cannot do backup')] }, { skipQuiesce: true });
      exported(fleet);
    },
    eachSecond(fleet, second) {
      const backup = fleet.find('virtualMachineBackups', { namespace: 'vms', name: 'monday' });
      if (second === 25 && backup !== undefined) fleet.patch('virtualMachineBackups', backup, { status: READY });
    },
    end: 'Succeeded Completed Crash',
    creates: 'serviceAccounts roleBindings jobs',
  },
];

export const BACKUP_FAILURES: readonly ExpectedScene[] = [
  {
    name: 'a backup that does not exist',
    setUp: (fleet) => exported(fleet, SHORT),
    end: 'Failed BackupNotFound',
    words: /^there is no VirtualMachineBackup monday in this namespace; it was not ready within 30 seconds$/,
    creates: '',
  },
  {
    name: 'a backup of a VM that does not run',
    setUp(fleet) {
      put(fleet, { conditions: [condition('Initializing', 'vm db01 is not running, cannot do backup')] });
      exported(fleet, SHORT);
    },
    end: 'Failed BackupPending',
    words: /^the VirtualMachineBackup monday: vm db01 is not running, cannot do backup; it was not ready within 30 seconds$/,
    creates: '',
  },
  {
    name: 'a backup in push mode',
    setUp(fleet) {
      put(fleet, undefined, { mode: 'Push' });
      exported(fleet);
    },
    end: 'Failed BackupNotPull',
    words: /writes it to the claim scratch; export that claim with spec\.image\.layout: Verbatim/,
    creates: '',
  },
  {
    name: 'a backup whose time to live has ended',
    setUp(fleet) {
      put(fleet, {
        ...READY,
        conditions: [...READY.conditions, condition('Aborting', 'pull mode backup TTL has expired: Backup is aborting')],
      });
      exported(fleet);
    },
    end: 'Failed BackupEnded',
    words: /is ending: pull mode backup TTL has expired: Backup is aborting; create another VirtualMachineBackup/,
    creates: '',
  },
  {
    name: 'a backup whose guest has stopped',
    setUp(fleet) {
      put(fleet, { ...READY, conditions: [condition('Done', 'Backup has failed: VMI is not in a running state')] });
      exported(fleet);
    },
    end: 'Failed BackupEnded',
    words: /has ended: Backup has failed: VMI is not in a running state; create another/,
    creates: '',
  },
];
