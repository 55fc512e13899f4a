/** A ServiceAccount of the chart with the rights that the chart gives it, and a kubeconfig of that account only. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { CHART, MINIMAL, ofKind, parseManifests } from '../helpers/chart.ts';
import { isOfHook, type Manifest, type Role } from '../helpers/helm-pods.ts';
import { helmTools } from '../helpers/helm-tools.ts';
import type { ApiServer } from './api-server.ts';
import { writeKubeconfig } from './kubeconfig.ts';

export interface ChartAccount {
  /** Its name as a user of the API server. */
  user: string;
  kubeconfig: string;
  token: string;
  /** Its rights, as `RESOURCE VERB`, sorted. */
  permitted: string[];
  /** The file of its objects, for `kubectl delete`. */
  file: string;
}

const KINDS = ['ServiceAccount', 'Role', 'RoleBinding'];
const CLUSTER_KINDS = ['ClusterRole', 'ClusterRoleBinding'];

/** Parts of the names of the objects of each account. */
const OF_ACCOUNT = {
  sidecar: /^disklift$/,
  'stop-sidecars': /stop-sidecars/,
  controller: /-controller(-leader)?$|-worker$/,
  'stop-controller': /stop-controller/,
};

interface AccountOptions {
  /** Whose account. Default: the sidecar's. */
  of?: keyof typeof OF_ACCOUNT;
}

/** @param values of the chart beside the required ones */
export async function applyChartAccount(
  api: ApiServer,
  namespace: string,
  values: object = {},
  { of = 'sidecar' }: AccountOptions = {},
): Promise<ChartAccount> {
  const place = (name: string) => path.join(path.dirname(api.kubeconfig), `${namespace}-${name}`);
  writeFileSync(place('values.json'), JSON.stringify({ ...MINIMAL, ...values }));
  const rendered = await helmTools().helm('template', 'disklift', CHART, '--namespace', namespace, '--values', place('values.json'));
  assert.equal(rendered.code, 0, rendered.stderr);
  const isOfAccount = ({ kind, metadata }: Manifest) =>
    [...KINDS, ...CLUSTER_KINDS].includes(kind) && OF_ACCOUNT[of].test(metadata.name) && isOfHook(metadata) === of.startsWith('stop-');
  const manifests = parseManifests(rendered.stdout.toString()).filter(isOfAccount);
  const name = ofKind(manifests, 'ServiceAccount')[0]?.metadata.name ?? assert.fail();
  const file = place('account.json');
  writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: manifests }));
  const applied = await api.kubectl('apply', '--filename', file);
  assert.equal(applied.code, 0, applied.stderr);
  const created = await api.kubectl('create', 'token', name, '--namespace', namespace, '--duration', '6h');
  assert.equal(created.code, 0, created.stderr);
  const token = created.stdout.toString().trim();
  writeKubeconfig(place('kubeconfig'), { url: api.url, ca: api.ca, token });
  const own = manifests.filter(({ metadata }) => !/-worker$/.test(metadata.name));
  const rules = [...ofKind<Role>(own, 'Role'), ...ofKind<Role>(own, 'ClusterRole')].flatMap((role) => role.rules);
  return {
    user: `system:serviceaccount:${namespace}:${name}`,
    kubeconfig: place('kubeconfig'),
    token,
    permitted: [
      ...new Set(rules.flatMap(({ resources, verbs }) => resources.flatMap((each) => verbs.map((verb) => `${each} ${verb}`)))),
    ].sort(),
    file,
  };
}
