/** The Job of an export of a VirtualMachineBackup. */

import assert from 'node:assert/strict';
import { createSourceObserver, type SourceObserverOptions } from '../../../../src/controller/observe-source.ts';
import type { SourceFacts } from '../../../../src/controller/observed.ts';
import { reconcile } from '../../../../src/controller/reconcile.ts';
import { observedOf, requestOf, SETTINGS } from '../observed-facts.ts';

const REQUEST = requestOf({ source: { virtualMachineBackup: { name: 'monday' } } });

function backupOf(spec: object) {
  const conditions = ['Progressing', 'ExportReady'].map((type) => ({ type, status: 'True', reason: 'ready' }));
  const [dataEndpoint, mapEndpoint] = ['https://a.example/data', 'https://a.example/map'];
  return {
    metadata: { name: 'monday', uid: 'b-1' },
    spec: { mode: 'Pull', source: { kind: 'VirtualMachine', name: 'db01' }, ...spec },
    status: { endpointCert: 'PEM', conditions, includedVolumes: [{ volumeName: 'root', dataEndpoint, mapEndpoint }] },
  };
}

async function observedBackup(spec: object): Promise<SourceFacts> {
  const api = { virtualMachineBackups: { get: async () => backupOf(spec) } };
  const observer = createSourceObserver({ api, cache: {}, clock: {} } as unknown as SourceObserverOptions);
  return observer.observe(REQUEST, observedOf().children);
}

describe('the Job of an export of a VirtualMachineBackup', () => {
  it('has the UID of the backup, so that no later pod of it reads another one', async () => {
    const { actions } = reconcile(observedOf({ request: REQUEST, source: await observedBackup({}) }), SETTINGS);
    const job = actions.find((action) => action.kind === 'create' && action.resource === 'jobs');
    assert.ok(job?.kind === 'create');
    const { template } = job.object.spec as { template: { spec: { containers: { env: { name: string; value: string }[] }[] } } };
    const values = template.spec.containers[0]?.env.filter(({ name }) => name === 'DISKLIFT_BACKUP_UID').map(({ value }) => value);
    assert.deepEqual(values, ['b-1']);
  });

  it('shows in the status how consistent the backup is, and nothing else of it', async () => {
    const { report } = reconcile(observedOf({ request: REQUEST, source: await observedBackup({ skipQuiesce: true }) }), SETTINGS);
    assert.equal(report?.consistency, 'Crash');
    assert.ok(!JSON.stringify(report).includes('b-1'));
  });
});
