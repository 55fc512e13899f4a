import assert from 'node:assert/strict';
import { readVmBackup } from '../../../../src/controller/virtual-machine-backup/read-vm-backup.ts';

const SPEC = {
  mode: 'Pull',
  tokenSecretRef: 'token',
  source: { apiGroup: 'backup.kubevirt.io', kind: 'VirtualMachineBackupTracker', name: 'nightly' },
};
const VOLUME = { volumeName: 'root', dataEndpoint: 'https://a/data', mapEndpoint: 'https://a/map' };
const condition = (type: string, status: string, reason: string, message?: string) => ({ type, status, reason, message });
const STATUS = {
  type: 'Incremental',
  checkpointName: 'monday-2026',
  endpointCert: 'PEM',
  includedVolumes: [VOLUME],
  conditions: [condition('Progressing', 'True', 'ready'), condition('ExportReady', 'True', 'ready'), condition('Done', 'False', 'ready')],
};

const read = (status: object | undefined, spec: object = {}, metadata: object = {}) =>
  readVmBackup({ metadata: { name: 'monday', uid: 'u-1', ...metadata }, spec: { ...SPEC, ...spec }, ...(status && { status }) });

describe('the state of a VirtualMachineBackup', () => {
  it('is ready with the endpoints of all volumes', () => {
    assert.deepEqual(read(STATUS), {
      state: 'ready',
      name: 'monday',
      uid: 'u-1',
      isIncremental: true,
      checkpointName: 'monday-2026',
      endpointCert: 'PEM',
      volumes: [{ name: 'root', dataEndpoint: 'https://a/data', mapEndpoint: 'https://a/map' }],
      tokenSecretName: 'token',
      source: { kind: 'VirtualMachineBackupTracker', name: 'nightly' },
      isUnfrozen: false,
    });
  });

  it('is full for every other type than Incremental', () => {
    for (const type of ['Full', 'Differential', undefined])
      assert.partialDeepStrictEqual(read({ ...STATUS, type }), { isIncremental: false });
  });

  const pending: Readonly<Record<string, [status: object | undefined, message: string]>> = {
    'without a status': [undefined, 'KubeVirt has not begun with it'],
    'with a reason as text': [
      { conditions: [condition('Initializing', 'True', 'vm db01 has no ChangedBlockTracking')] },
      'vm db01 has no ChangedBlockTracking',
    ],
    'with a message as text': [{ conditions: [condition('Progressing', 'True', 'Exporting', 'waits for\nlinks')] }, 'waits for links'],
    'without a certificate': [{ ...STATUS, endpointCert: undefined }, 'ready'],
    'without volumes': [{ ...STATUS, includedVolumes: [] }, 'its status lacks endpoints of its volumes'],
    'without an endpoint': [
      { ...STATUS, includedVolumes: [VOLUME, { ...VOLUME, volumeName: 'data', mapEndpoint: '' }] },
      'its status lacks endpoints of data',
    ],
  };
  for (const [what, [status, message]] of Object.entries(pending))
    it(`is pending ${what}`, () =>
      assert.deepEqual(read(status), {
        state: 'pending',
        reason: 'BackupPending',
        message: `the VirtualMachineBackup monday: ${message}`,
      }));

  it('is over when it is done, complete, failed, aborted or deleted, whatever else its status shows', () => {
    for (const type of ['Done', 'Complete', 'Failed', 'Aborting', 'Deleting'])
      assert.partialDeepStrictEqual(read({ ...STATUS, conditions: [...STATUS.conditions.slice(0, 2), condition(type, 'True', 'why')] }), {
        state: 'over',
        reason: 'BackupEnded',
      });
    assert.partialDeepStrictEqual(read(STATUS, {}, { deletionTimestamp: '2026-11-30T00:00:00Z' }), {
      state: 'over',
      reason: 'BackupEnded',
    });
  });

  it('is over for push mode, also where the mode is left out, and for a source of another kind', () => {
    for (const mode of ['Push', undefined])
      assert.partialDeepStrictEqual(read(STATUS, { mode }), { state: 'over', reason: 'BackupNotPull' });
    assert.partialDeepStrictEqual(read(STATUS, { source: { kind: 'Pod', name: 'a' } }), { state: 'over', reason: 'BackupUnreadable' });
  });
});
