/** Definitions of the kinds of storage drivers and of KubeVirt that accept every object: for tests without these. */

import assert from 'node:assert/strict';
import type { ResourceDescription } from '../../src/stores/kubernetes/client/contract.ts';
import { RESOURCES } from '../../src/stores/kubernetes/client/resources.ts';
import { until } from '../helpers/until.ts';
import type { ApiServer } from './api-server.ts';

export const SNAPSHOT_KINDS = ['volumeSnapshots', 'virtualMachineSnapshots'] as const satisfies readonly (keyof typeof RESOURCES)[];

export const FLEET_KINDS = [
  ...SNAPSHOT_KINDS,
  ...(['volumeSnapshotClasses', 'volumeSnapshotContents', 'snapshotMetadataServices', 'virtualMachines'] as const),
  ...(['virtualMachineInstances', 'virtualMachineSnapshotContents', 'virtualMachineBackups'] as const),
] as const;

export async function installLooseCrds(api: ApiServer, kinds: readonly (keyof typeof RESOURCES)[]): Promise<void> {
  for (const { group, version, plural, kind, isClusterScoped = false } of kinds.map((each): ResourceDescription => RESOURCES[each])) {
    const schema = { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } };
    const body = {
      metadata: { name: `${plural}.${group}`, annotations: { 'api-approved.kubernetes.io': 'unapproved, a test' } },
      spec: {
        group,
        scope: isClusterScoped ? 'Cluster' : 'Namespaced',
        names: { plural, kind, singular: kind.toLowerCase(), listKind: `${kind}List` },
        versions: [{ name: version, served: true, storage: true, subresources: { status: {} }, schema }],
      },
    };
    const made = await api.request('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', { method: 'POST', body });
    assert.ok(made.status === 201 || made.status === 409, JSON.stringify(made.body));
    await until(`${plural} are served`, async () => (await api.request(`/apis/${group}/${version}/${plural}`)).status === 200);
  }
}
