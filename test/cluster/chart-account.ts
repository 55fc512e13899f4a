/** The chart's ServiceAccount with the chart's Role in a namespace, and a kubeconfig of that account only. */

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
  /** The rights of the Role, as `RESOURCE VERB`, sorted. */
  permitted: string[];
  /** The file of its objects, for `kubectl delete`. */
  file: string;
}

const KINDS = ['ServiceAccount', 'Role', 'RoleBinding'];

interface AccountOptions {
  /** Uses the account of the Job that runs before uninstalling, in place of the sidecar's. */
  ofHook?: boolean;
}

/** @param values of the chart beside the required ones */
export async function applyChartAccount(
  api: ApiServer,
  namespace: string,
  values: object = {},
  { ofHook = false }: AccountOptions = {},
): Promise<ChartAccount> {
  const place = (name: string) => path.join(path.dirname(api.kubeconfig), `${namespace}-${name}`);
  writeFileSync(place('values.json'), JSON.stringify({ ...MINIMAL, ...values }));
  const rendered = await helmTools().helm('template', 'disklift', CHART, '--namespace', namespace, '--values', place('values.json'));
  assert.equal(rendered.code, 0, rendered.stderr);
  const rightful = ({ kind, metadata }: Manifest) => KINDS.includes(kind) && isOfHook(metadata) === ofHook;
  const manifests = parseManifests(rendered.stdout.toString()).filter(rightful);
  assert.equal(manifests.length, KINDS.length);
  const name = manifests[0]?.metadata.name ?? assert.fail();
  const file = place('account.json');
  writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: manifests }));
  const applied = await api.kubectl('apply', '--namespace', namespace, '--filename', file);
  assert.equal(applied.code, 0, applied.stderr);
  const token = await api.kubectl('create', 'token', name, '--namespace', namespace, '--duration', '1h');
  assert.equal(token.code, 0, token.stderr);
  writeKubeconfig(place('kubeconfig'), { url: api.url, ca: api.ca, token: token.stdout.toString().trim() });
  const rules = ofKind<Role>(manifests, 'Role').flatMap((role) => role.rules);
  return {
    user: `system:serviceaccount:${namespace}:${name}`,
    kubeconfig: place('kubeconfig'),
    permitted: [
      ...new Set(rules.flatMap(({ resources, verbs }) => resources.flatMap((each) => verbs.map((verb) => `${each} ${verb}`)))),
    ].sort(),
    file,
  };
}
