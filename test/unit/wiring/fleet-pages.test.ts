import assert from 'node:assert/strict';
import { slimExport } from '../../../src/controller/slim-objects.ts';
import { queryExports } from '../../../src/server/query-exports.ts';
import type { ExportObject } from '../../../src/stores/kubernetes/client/objects.ts';
import type { LeadingController } from '../../../src/wiring/controller.ts';
import { createFleetPages } from '../../../src/wiring/fleet-pages.ts';
import { diskExport } from '../../helpers/manifest.ts';

const ALL = { search: '', phases: [], offset: 0, limit: 50 };

function exportObject(name: string, further: object = {}): ExportObject {
  const { metadata, spec } = diskExport(name, {
    s3: { bucket: 'backups', key: '{namespace}/{name}/{disk}.qcow2', region: 'eu' },
  }) as unknown as ExportObject;
  return { metadata: { ...metadata, name, namespace: 'vms', uid: name, resourceVersion: '1' }, spec, ...further } as ExportObject;
}

function pagesOf(objects: Map<string, ExportObject> | undefined) {
  const controller = {
    hasSynced: true,
    exportKeys: () => objects?.keys() ?? [],
    exportOf: (key: string) => objects?.get(key),
    schedules: () => [],
  };
  const leading = () => (objects === undefined ? undefined : (controller as unknown as LeadingController));
  return createFleetPages(leading, { namespace: 'disklift', name: 'the-lease' });
}

describe('the pages of a controller', () => {
  it('show exports that run and exports that have ended, with sizes although their disks are not kept', () => {
    const time = '2026-01-01T00:00:00Z';
    const progress = { percent: 100, virtualBytes: 9, imageBytes: 6, sentBytes: 6, skippedBytes: 3, written: '6' };
    const ended = { phase: 'Succeeded', startTime: time, completionTime: time, consistency: 'Application', snapshotTime: time, progress };
    const disks = [{ path: 'disk.img', phase: 'Succeeded', imageBytes: 6 }];
    const objects = new Map([
      ['vms/new', exportObject('new', { status: { phase: 'Pending' } })],
      ['vms/old', slimExport(exportObject('old', { status: { ...ended, disks } }))],
    ]);
    const { items, counts } = queryExports(pagesOf(objects).registry, ALL);
    assert.equal(counts.Succeeded, 1);
    assert.deepEqual([items[0]?.name, items[0]?.reason], ['new', 'Unclaimed']);
    const { name, phase, percent, imageBytes, virtualBytes, consistency, snapshotTime, destination } = items[1] ?? assert.fail();
    assert.deepEqual([name, phase, percent, imageBytes, virtualBytes], ['old', 'Succeeded', 100, 6, 9]);
    assert.deepEqual([consistency, snapshotTime], ['Application', time]);
    assert.equal(destination?.address, 's3://backups/vms/old/{disk}.qcow2 at AWS');
  });

  it('compute the view of an export once for each version of it', () => {
    const objects = new Map([['vms/a', exportObject('a')]]);
    const { registry } = pagesOf(objects);
    const first = registry.get('vms/a');
    assert.equal(registry.get('vms/a'), first);
    objects.set('vms/a', exportObject('a', { status: { phase: 'Scanning', startTime: '2026-01-01T00:00:00Z' } }));
    assert.equal(registry.get('vms/a')?.phase, 'Scanning');
  });

  for (const spec of [undefined, null, 'text', {}, { source: {} }, { source: { persistentVolumeClaim: null }, destination: 7 }])
    it(`show an export whose request cannot be read: ${JSON.stringify(spec)}`, () => {
      const view = pagesOf(new Map([['vms/a', exportObject('a', { spec })]])).registry.get('vms/a');
      assert.equal(view?.message, 'this version of disklift cannot read the request');
    });

  it('report changes until a reader leaves', () => {
    const pages = pagesOf(new Map());
    const seen: string[] = [];
    const leave = pages.registry.onChange((key) => seen.push(key));
    pages.onExport('vms/a');
    leave();
    pages.onExport('vms/b');
    assert.deepEqual(seen, ['vms/a']);
  });

  it('name the Lease where this process does not lead', () => {
    const pages = pagesOf(undefined);
    assert.match(pages.problem() ?? '', /does not lead; kubectl --namespace disklift get lease the-lease shows/);
    assert.deepEqual(
      [[...pages.registry.keys()], pages.registry.get('vms/a'), pages.schedules()],
      [[], undefined, { total: 0, items: [] }],
    );
    assert.equal(pagesOf(new Map()).problem(), undefined);
  });
});
