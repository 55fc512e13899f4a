/** The CRD on a real API server: it accepts and refuses the same requests as src/resource/validate.ts. */

// Shares a process: API server

import assert from 'node:assert/strict';
import type { DiskExport } from '../../src/resource/disk-export.ts';
import { validateDiskExport, validateStatus } from '../../src/resource/validate.ts';
import { changed, REQUESTS, UPDATES } from '../fixtures/request-table.ts';
import type { ApiAnswer } from './api-request.ts';
import type { ApiServer } from './api-server.ts';
import { installCrd } from './install-crd.ts';
import { useApiServer } from './use-api-server.ts';

const COLLECTION = '/apis/disklift.dev/v1alpha1/namespaces/default/diskexports';
/** The default of kubectl. */
const STRICT = 'fieldValidation=Strict';

describe('the CRD on an API server', function () {
  this.timeout(90_000);
  let api: ApiServer;
  let count = 0;

  before(async function () {
    api = await useApiServer(this);
    await installCrd(api);
  });

  /** Creates each object with its own name, unless the name is tested. */
  function create(request: Record<string, unknown>): Promise<ApiAnswer> {
    count += 1;
    const metadata = request.metadata as { name: string };
    if (metadata.name === 'fedora') metadata.name = `fedora-${count}`;
    return api.request(`${COLLECTION}?${STRICT}`, { method: 'POST', body: request });
  }

  function assertRefused({ status, body }: ApiAnswer, field: string): void {
    assert.equal(status, 422, JSON.stringify(body));
    const causes = body.details.causes as { field: string; message: string }[];
    const fields = causes.map((cause) => cause.field);
    assert.ok(
      fields.some((named) => named === field || named.startsWith(`${field}.`)),
      `${fields} has ${field}: ${body.message}`,
    );
  }

  describe('a new object', () => {
    for (const { sentence, change, refused, words = '', refusedByDecoder } of REQUESTS)
      it(`is ${refused === undefined ? 'accepted' : 'refused'}: ${sentence}`, async () => {
        const request = changed(change);
        const answer = await create(request);
        if (refused === undefined) {
          assert.equal(answer.status, 201, JSON.stringify(answer.body));
          assert.deepEqual(validateDiskExport(request).spec, answer.body.spec, 'both fill in the same');
        } else if (refusedByDecoder) {
          assert.equal(answer.status, 400);
          assert.ok(answer.body.message.includes(`unknown field "${refused}"`), answer.body.message);
        } else {
          assertRefused(answer, refused);
          assert.ok(answer.body.message.includes(words), answer.body.message);
        }
      });
  });

  describe('an existing object', () => {
    for (const { sentence, before = {}, change, refused } of UPDATES)
      it(`${refused === undefined ? 'may' : 'may not'} change ${sentence}`, async () => {
        const old = changed(before);
        const created = await create(old);
        assert.equal(created.status, 201, JSON.stringify(created.body));
        const { name, resourceVersion } = created.body.metadata;
        const body = changed({ ...before, ...change, 'metadata.name': name, 'metadata.resourceVersion': resourceVersion });
        const answer = await api.request(`${COLLECTION}/${name}?${STRICT}`, { method: 'PUT', body });
        if (refused === undefined) assert.equal(answer.status, 200, JSON.stringify(answer.body));
        else assertRefused(answer, refused);
      });
  });

  it('gives a new object a status that says which step is missing', async () => {
    const { body } = await create(changed({}));
    const { phase, conditions } = validateStatus(body.status);
    assert.equal(phase, 'Pending');
    assert.equal(conditions?.length, 1);
    assert.equal(conditions[0]?.lastTransitionTime, undefined, 'nothing knows that time yet');
    assert.partialDeepStrictEqual(conditions[0], { type: 'Succeeded', status: 'Unknown', reason: 'Unclaimed' });
    assert.match(conditions[0]?.message ?? '', /sidecar/);
  });

  it('lets objects be selected by their phase', async () => {
    const { body } = await create(changed({}));
    const patch = { method: 'PATCH', body: { status: { phase: 'Failed' } }, contentType: 'application/merge-patch+json' } as const;
    assert.equal((await api.request(`${COLLECTION}/${body.metadata.name}/status`, patch)).status, 200);
    const selected = await api.request(`${COLLECTION}?fieldSelector=status.phase%3DFailed`);
    assert.deepEqual(
      selected.body.items.map(({ metadata }: { metadata: { name: string } }) => metadata.name),
      [body.metadata.name],
    );
  });

  it('accepts a status by its subresource only', async () => {
    const { body } = await create({ ...changed({}), status: { phase: 'Succeeded' } });
    assert.equal(body.status.phase, 'Pending');
    const status: DiskExport['status'] = {
      phase: 'Streaming',
      destination: 'S3',
      duration: '12m30s',
      consistency: 'Crash',
      snapshotTime: '2026-11-30T01:42:01Z',
      conditions: [{ type: 'Succeeded', status: 'Unknown', reason: 'Scanning', message: '' }],
      progress: { percent: 42, virtualBytes: 2 ** 50, imageBytes: 9, sentBytes: 4, skippedBytes: 7, written: '4' },
      executor: { podName: 'sidecar-0' },
      disks: [{ path: 'disk.img', upload: { id: 'x', partSize: 16777216, fingerprint: 'f' } }],
    };
    const url = `${COLLECTION}/${body.metadata.name}`;
    const patch = { method: 'PATCH', body: { status }, contentType: 'application/merge-patch+json' } as const;
    assert.equal((await api.request(`${url}/status?${STRICT}`, patch)).status, 200);
    const table = await api.request(url, { accept: 'application/json;as=Table;g=meta.k8s.io;v=v1' });
    const row = table.body.rows[0].cells;
    const columns = (table.body.columnDefinitions as { name: string; priority: number }[]).map(
      ({ name, priority }) => `${name}/${priority}`,
    );
    assert.deepEqual(columns, [
      ...['Name/0', 'Phase/0', 'Reason/0', 'Progress/0', 'Destination/0', 'Written/0', 'Duration/0', 'Age/0'],
      ...['Source/1', 'Consistency/1', 'Virtual/1', 'Skipped/1', 'Executor/1', 'Message/1'],
    ]);
    assert.deepEqual(row.slice(1, 6), ['Streaming', 'Scanning', 42, 'S3', '4']);
    assert.equal(row[6], '12m30s');
    assert.deepEqual(row.slice(8, 13), ['fedora-root', 'Crash', 2 ** 50, 7, 'sidecar-0']);
  });

  it('shows the name of the source in a column, whatever its kind', async () => {
    for (const source of [
      { persistentVolumeClaim: { claimName: 'x' } },
      { volumeSnapshot: { name: 'x' } },
      { virtualMachine: { name: 'x' } },
    ]) {
      const { body } = await create(changed({ 'spec.source': source }));
      const table = await api.request(`${COLLECTION}/${body.metadata.name}`, { accept: 'application/json;as=Table;g=meta.k8s.io;v=v1' });
      assert.equal(table.body.rows[0].cells[8], 'x', JSON.stringify(source));
    }
  });

  it('is explained field by field, with units', async () => {
    const { body } = await api.request('/openapi/v3/apis/disklift.dev/v1alpha1');
    const undescribed: string[] = [];
    const walk = (schema: Record<string, unknown>, path: string) => {
      if (schema.description === undefined) undescribed.push(path);
      for (const [name, property] of Object.entries(schema.properties ?? {})) walk(property, `${path}.${name}`);
      if (schema.items !== undefined) walk(schema.items as Record<string, unknown>, `${path}[]`);
    };
    const { properties } = body.components.schemas['dev.disklift.v1alpha1.DiskExport'];
    walk(properties.spec, 'spec');
    walk(properties.status, 'status');
    assert.deepEqual(undescribed, []);
  });

  it('is found by its short name, and is namespaced', async () => {
    const { body } = await api.request('/apis/disklift.dev/v1alpha1');
    const [resource] = body.resources;
    assert.partialDeepStrictEqual(resource, { name: 'diskexports', namespaced: true, kind: 'DiskExport', shortNames: ['dx'] });
    assert.equal(resource.categories, undefined);
  });
});
