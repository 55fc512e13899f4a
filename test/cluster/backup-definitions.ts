/** KubeVirt's own definitions of backups and VMs on an API server of the tests. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { until } from '../helpers/until.ts';
import type { ApiServer } from './api-server.ts';

interface Definition {
  metadata: { name: string };
  spec: { group: string; names: { plural: string }; versions: { name: string; storage: boolean }[] };
}

const NAMES: readonly string[] = [
  'virtualmachinebackups.backup.kubevirt.io',
  'virtualmachinebackuptrackers.backup.kubevirt.io',
  'virtualmachines.kubevirt.io',
];

/** @param folder of test/tools/kubevirt.sh */
export async function installBackupDefinitions(api: ApiServer, folder: string): Promise<void> {
  const all = JSON.parse(readFileSync(path.join(folder, 'definitions.json'), 'utf8')) as Definition[];
  for (const definition of all.filter(({ metadata }) => NAMES.includes(metadata.name))) {
    const { group, names, versions } = definition.spec;
    const made = await api.request('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', { method: 'POST', body: definition });
    assert.ok(made.status === 201 || made.status === 409, JSON.stringify(made.body));
    const version = versions.find(({ storage }) => storage)?.name;
    await until(`${names.plural} are served`, async () => (await api.request(`/apis/${group}/${version}/${names.plural}`)).status === 200);
  }
}
