/** The CRD of schedules on a real API server: its template is a DiskExport's spec that may be changed. */

// Shares a process: API server

import assert from 'node:assert/strict';
import { changed, REQUESTS, UPDATES } from '../fixtures/request-table.ts';
import type { ApiAnswer } from './api-request.ts';
import type { ApiServer } from './api-server.ts';
import { installCrd } from './install-crd.ts';
import { useApiServer } from './use-api-server.ts';

const COLLECTION = '/apis/disklift.dev/v1alpha1/namespaces/default/diskexportschedules';
const STRICT = 'fieldValidation=Strict';

type Fields = Record<string, unknown>;

describe('the CRD of schedules on an API server', function () {
  this.timeout(90_000);
  let api: ApiServer;
  let count = 0;

  before(async function () {
    api = await useApiServer(this);
    await installCrd(api);
    await installCrd(api, 'crd-schedules.yaml');
  });

  function scheduleOf(spec: Fields, name = `nightly-${++count}`, template: Fields = { spec: changed({}).spec }): Fields {
    return {
      apiVersion: 'disklift.dev/v1alpha1',
      kind: 'DiskExportSchedule',
      metadata: { name },
      spec: { schedule: '30 2 * * *', exportTemplate: template, ...spec },
    };
  }

  const create = (body: Fields) => api.request(`${COLLECTION}?${STRICT}`, { method: 'POST', body });

  function assertRefused({ status, body }: ApiAnswer, words: string): void {
    assert.equal(status, 422, JSON.stringify(body));
    assert.ok(body.message.includes(words), body.message);
  }

  it('fills in the defaults of a CronJob', async () => {
    const { status, body } = await create(scheduleOf({}));
    assert.equal(status, 201, JSON.stringify(body));
    const { exportTemplate: _, ...spec } = body.spec;
    assert.deepEqual(spec, {
      schedule: '30 2 * * *',
      suspend: false,
      concurrencyPolicy: 'Forbid',
      successfulExportsHistoryLimit: 3,
      failedExportsHistoryLimit: 1,
    });
  });

  for (const schedule of ['* * * * *', '*/5 0-6,22 1 JAN-MAR MON', '0  4 ? * 7', '@daily', '@midnight'])
    it(`accepts the schedule ${schedule}`, async () => {
      const { status, body } = await create(scheduleOf({ schedule }));
      assert.equal(status, 201, JSON.stringify(body));
    });

  for (const schedule of ['* * * *', '0 * * * * *', '@every 1h', '@reboot', 'CRON_TZ=UTC 0 0 * * *', '0 0 L * MON#2', ' 0 0 * * *'])
    it(`refuses the schedule ${JSON.stringify(schedule)}`, async () => {
      assertRefused(await create(scheduleOf({ schedule })), 'must have five fields');
    });

  const refusals: [string, Fields, string][] = [
    ['a time zone that is no name', { timeZone: 'Europe/Berlin; x' }, 'spec.timeZone'],
    ['another policy', { concurrencyPolicy: 'Never' }, 'spec.concurrencyPolicy'],
    ['a negative limit', { failedExportsHistoryLimit: -1 }, 'spec.failedExportsHistoryLimit'],
    [
      'a template that is cancelled',
      { exportTemplate: { spec: changed({ 'spec.cancel': true }).spec } },
      'must not be set in a template; suspend stops a schedule',
    ],
    [
      'labels that an export cannot have',
      { exportTemplate: { metadata: { labels: { 'a b': 'c' } }, spec: changed({}).spec } },
      'must have keys that are names of labels',
    ],
  ];
  for (const [what, spec, words] of refusals)
    it(`refuses ${what}`, async () => {
      assertRefused(await create(scheduleOf(spec)), words);
    });

  it('refuses a name that leaves no room for the time of an export', async () => {
    assert.equal((await create(scheduleOf({}, 'a'.repeat(52)))).status, 201);
    assertRefused(await create(scheduleOf({}, 'a'.repeat(53))), 'must have at most 52 characters');
  });

  describe('a template', () => {
    for (const { sentence, change, refused, words = '' } of REQUESTS) {
      // A template has no name, and what belongs to the object is no part of it.
      if (!Object.keys(change).every((path) => path.startsWith('spec.')) || change['spec.cancel'] === true) continue;
      it(`is ${refused === undefined ? 'accepted' : 'refused'}: ${sentence}`, async () => {
        const { spec } = changed(change);
        const { status, body } = await create(scheduleOf({ exportTemplate: { spec } }));
        if (refused === undefined) assert.equal(status, 201, JSON.stringify(body));
        else assert.ok([400, 422].includes(status) && body.message.includes(words), JSON.stringify(body));
      });
    }

    it('gets the defaults of a DiskExport', async () => {
      const asExport = changed({ 'metadata.name': `of-the-table-${++count}` });
      const exported = await api.request(COLLECTION.replace('schedules', 's'), { method: 'POST', body: asExport });
      const { body } = await create(scheduleOf({}));
      assert.deepEqual(body.spec.exportTemplate.spec, exported.body.spec);
    });

    for (const { sentence, before = {}, change, refused } of UPDATES) {
      const isOfSpec = Object.keys(change).every((path) => path.startsWith('spec.')) && before['spec.cancel'] !== true;
      if (refused === undefined || !isOfSpec) continue;
      it(`may change ${sentence}, which a DiskExport may not`, async () => {
        const created = await create(scheduleOf({ exportTemplate: { spec: changed(before).spec } }));
        assert.equal(created.status, 201, JSON.stringify(created.body));
        const { name, resourceVersion } = created.body.metadata;
        const body = scheduleOf({ exportTemplate: { spec: changed({ ...before, ...change }).spec } }, name);
        const answer = await api.request(`${COLLECTION}/${name}`, {
          method: 'PUT',
          body: { ...body, metadata: { name, resourceVersion } },
        });
        assert.equal(answer.status, 200, JSON.stringify(answer.body));
      });
    }
  });

  it('shows the columns of a CronJob', async () => {
    const { body } = await create(scheduleOf({ timeZone: 'Europe/Berlin' }));
    const url = `${COLLECTION}/${body.metadata.name}`;
    const status = { active: ['a', 'b'], activeCount: 2, lastScheduleTime: '2026-11-30T01:30:00Z', conditions: [] };
    const patch = { method: 'PATCH', body: { status }, contentType: 'application/merge-patch+json' } as const;
    assert.equal((await api.request(`${url}/status?${STRICT}`, patch)).status, 200);
    const table = await api.request(url, { accept: 'application/json;as=Table;g=meta.k8s.io;v=v1' });
    const shown = (table.body.columnDefinitions as { name: string; priority: number }[]).filter(({ priority }) => priority === 0);
    assert.deepEqual(
      shown.map(({ name }) => name),
      ['Name', 'Schedule', 'TimeZone', 'Suspend', 'Active', 'Last Schedule', 'Last Success', 'Age'],
    );
    assert.deepEqual(table.body.rows[0].cells.slice(1, 5), ['30 2 * * *', 'Europe/Berlin', false, 2]);
  });

  it('is explained field by field', async () => {
    const { body } = await api.request('/openapi/v3/apis/disklift.dev/v1alpha1');
    const undescribed: string[] = [];
    const walk = (schema: Fields, path: string) => {
      if (schema.description === undefined) undescribed.push(path);
      for (const [name, property] of Object.entries(schema.properties ?? {})) walk(property, `${path}.${name}`);
      if (schema.items !== undefined && (schema.items as Fields).type === 'object') walk(schema.items as Fields, `${path}[]`);
    };
    const { properties } = body.components.schemas['dev.disklift.v1alpha1.DiskExportSchedule'];
    walk(properties.spec, 'spec');
    walk(properties.status, 'status');
    assert.deepEqual(undescribed, []);
  });

  it('is found by its short name', async () => {
    const { body } = await api.request('/apis/disklift.dev/v1alpha1');
    const resource = body.resources.find(({ name }: { name: string }) => name === 'diskexportschedules');
    assert.partialDeepStrictEqual(resource, { namespaced: true, kind: 'DiskExportSchedule', shortNames: ['dxs'] });
  });
});
