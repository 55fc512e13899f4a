/** A CRD of exports that accepts what the program itself has to refuse. */

import assert from 'node:assert/strict';
import { diskExport } from '../helpers/manifest.ts';
import { until } from '../helpers/until.ts';
import type { ApiServer } from './api-server.ts';
import type { Namespace } from './cluster-sidecar.ts';

/** The CRD accepts any object then, as if another version of it had been installed before. `installCrd` undoes it. */
export async function loosenCrd(api: ApiServer, namespace: Namespace): Promise<void> {
  const place = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/diskexports.disklift.dev';
  const { body: crd } = await api.request(place);
  const anything = { 'x-kubernetes-preserve-unknown-fields': true };
  crd.spec.versions[0].schema.openAPIV3Schema = { type: 'object', properties: { spec: anything, status: anything } };
  // The API server accepts a selectable field only where the schema has it.
  delete crd.spec.versions[0].selectableFields;
  const { status, body } = await api.request(place, { method: 'PUT', body: crd });
  assert.equal(status, 200, JSON.stringify(body));
  // The API server takes a moment to apply it.
  const malformed = { method: 'POST', body: { ...diskExport('unstored', {}), metadata: { name: 'unstored' }, spec: 'text' } } as const;
  await until('the loose schema', async () => (await namespace.request('diskexports?dryRun=All', malformed)).status === 201);
}
