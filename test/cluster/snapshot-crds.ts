/** Definitions of the kinds of snapshots that accept every object: for tests of the API, without a driver. */

import assert from 'node:assert/strict';
import { until } from '../helpers/until.ts';
import type { ApiServer } from './api-server.ts';

const KINDS = [
  { group: 'snapshot.storage.k8s.io', version: 'v1', plural: 'volumesnapshots', kind: 'VolumeSnapshot' },
  { group: 'snapshot.kubevirt.io', version: 'v1beta1', plural: 'virtualmachinesnapshots', kind: 'VirtualMachineSnapshot' },
];

export async function installSnapshotCrds(api: ApiServer): Promise<void> {
  for (const { group, version, plural, kind } of KINDS) {
    const schema = { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } };
    const body = {
      metadata: { name: `${plural}.${group}`, annotations: { 'api-approved.kubernetes.io': 'unapproved, a test' } },
      spec: {
        group,
        scope: 'Namespaced',
        names: { plural, kind, singular: kind.toLowerCase(), listKind: `${kind}List` },
        versions: [{ name: version, served: true, storage: true, subresources: { status: {} }, schema }],
      },
    };
    const made = await api.request('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', { method: 'POST', body });
    assert.ok(made.status === 201 || made.status === 409, JSON.stringify(made.body));
    await until(`${plural} are served`, async () => (await api.request(`/apis/${group}/${version}/${plural}`)).status === 200);
  }
}
