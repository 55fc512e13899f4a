/** The resources of disklift on an API server. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parse } from 'yaml';
import type { ApiServer } from './api-server.ts';

const MANIFESTS = path.join(import.meta.dirname, '..', '..', 'manifests');
const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

/** Kubernetes 1.29 does not support selectableFields, so that users install the CRD there without strict validation. */
const IS_OLDEST = process.env.KUBERNETES === 'oldest';

/** Fails on unknown fields and on warnings of the server. In a cluster that has the resource, it is updated. */
export async function installCrd(api: ApiServer, file: 'crd.yaml' | 'crd-schedules.yaml' = 'crd.yaml'): Promise<void> {
  const crd = parse(readFileSync(path.join(MANIFESTS, file), 'utf8'));
  const there = await api.request(`${CRDS}/${crd.metadata.name}`);
  if (there.status === 200) crd.metadata.resourceVersion = there.body.metadata.resourceVersion;
  const [method, url] = there.status === 200 ? (['PUT', `${CRDS}/${crd.metadata.name}`] as const) : (['POST', CRDS] as const);
  const { status, body, warnings } = await api.request(`${url}?fieldValidation=${IS_OLDEST ? 'Ignore' : 'Strict'}`, { method, body: crd });
  assert.ok(status === 200 || status === 201, JSON.stringify(body));
  assert.deepEqual(warnings, []);
  while ((await api.request(`/apis/disklift.dev/v1alpha1/${crd.spec.names.plural}`)).status !== 200) await delay(50);
}
