import assert from 'node:assert/strict';
import { DiskliftError } from '../../../src/common/errors.ts';
import type { DiskState } from '../../../src/engine/observer.ts';
import { createAllocationMapBuilder } from '../../../src/qcow2/write/allocation-map.ts';
import { destinationName } from '../../../src/resource/destination-kinds.ts';
import { createExportRegistry, type ExportRegistry } from '../../../src/server/export-registry.ts';
import { describeDestination } from '../../../src/server/export-view.ts';
import { countPhases, parseQuery, queryExports } from '../../../src/server/query-exports.ts';
import { failsWith } from '../../helpers/failure.ts';
import { statusOf, storedRequest } from '../../helpers/http-app.ts';

const CLUSTER = 65_536;
const MIB = 1024 * 1024;

function scannedDisk(): DiskState {
  const builder = createAllocationMapBuilder(4 * MIB, CLUSTER);
  builder.append('data', 32);
  builder.append('hole', 32);
  const map = builder.build();
  return {
    ...{ path: 'disk.img', phase: 'Streaming', attempts: 1, clusterSizeBytes: CLUSTER, virtualBytes: 4 * MIB },
    ...{ scannedBytes: 4 * MIB, readBytes: 0, imageBytes: 2 * MIB + 5 * CLUSTER, metadataBytes: 5 * CLUSTER, sentBytes: 0 },
    ...{ map, clusters: map.clusters },
  };
}

describe('the registry of exports', () => {
  let timeMs: number;
  let registry: ExportRegistry;
  beforeEach(() => {
    timeMs = 0;
    registry = createExportRegistry({ monotonicMs: () => timeMs });
  });

  it('tells what the status tells of an export that nobody runs here', () => {
    const status = statusOf('Failed', {
      message: 'no such disk',
      conditions: [
        {
          type: 'Succeeded',
          status: 'False',
          reason: 'SourceNotFound',
          message: 'no such disk',
          lastTransitionTime: '2026-01-01T00:00:00Z',
        },
      ],
      progress: { percent: 3, virtualBytes: 1, imageBytes: 1, sentBytes: 1, skippedBytes: 7, written: '1' },
      disks: [
        { path: 'a.img', phase: 'Failed', attempts: 3, sentBytes: 5, imageBytes: 10, reason: 'SourceNotFound', message: 'no such disk' },
      ],
    });
    registry.onRead('vms/e', storedRequest('e', status));
    const view = registry.get('vms/e') ?? assert.fail();
    assert.deepEqual(
      [view.phase, view.reason, view.percent, view.retries, view.skippedBytes, view.isLive],
      ['Failed', 'SourceNotFound', 3, 2, 7, false],
    );
    assert.match(view.hint ?? '', /spec\.source\.disks/);
    assert.deepEqual(view.destination, { kind: 'HTTP', address: 'https://backup.example/{name}/{disk}.qcow2' });
    assert.equal(registry.mapOf('vms/e', 'a.img'), undefined);
    registry.onRead('vms/e', undefined);
    assert.equal(registry.get('vms/e'), undefined);
  });

  it('says of an export that nobody has begun with that no process has claimed it', () => {
    registry.onRead('vms/e', storedRequest('e', undefined));
    const view = registry.get('vms/e') ?? assert.fail();
    assert.deepEqual([view.phase, view.isUnclaimed, view.reason], ['Pending', true, 'Unclaimed']);
    assert.match(view.message ?? '', /^No process has claimed this export\./);
    assert.match(view.hint ?? '', /sidecar that serves this claim/);
    registry.onStatus('vms/e', statusOf('Scanning', {}));
    assert.equal(registry.get('vms/e')?.isUnclaimed, false);
  });

  it('tells when the next attempt begins, only while the export waits', () => {
    const nextAttemptTime = '2026-01-01T00:00:00Z';
    registry.onRead('vms/e', storedRequest('e', statusOf('Pending', { nextAttemptTime })));
    assert.equal(registry.get('vms/e')?.nextAttemptTime, nextAttemptTime);
    registry.onStatus('vms/e', statusOf('Streaming', { nextAttemptTime }));
    assert.equal(registry.get('vms/e')?.nextAttemptTime, undefined);
  });

  it('fills in the placeholders of a destination, for each disk where it names the disk', () => {
    const expanding = createExportRegistry({ monotonicMs: () => timeMs }, (_request, disk) => ({
      name: 'e',
      ...(disk === undefined ? {} : { disk }),
    }));
    const disks = [{ path: 'a' }, { path: 'b' }];
    expanding.onRead('vms/e', storedRequest('e', statusOf('Pending', { disks })));
    assert.equal(expanding.get('vms/e')?.destination?.address, 'https://backup.example/e/{disk}.qcow2');
    expanding.onStatus('vms/e', statusOf('Pending', { disks: disks.slice(0, 1) }));
    assert.equal(expanding.get('vms/e')?.destination?.address, 'https://backup.example/e/a.qcow2');
  });

  it('reports an unknown kind of destination instead of showing it as TCP', () => {
    const view = describeDestination({ tape: { drive: 0 } } as never);
    assert.deepEqual(view, { kind: 'unknown', address: 'a kind of destination that this version of disklift does not know' });
    assert.throws(
      () => destinationName({ spec: { destination: { tape: {} } } } as never),
      failsWith('InvalidRequest', /names no destination/),
    );
  });

  it('shows nothing of a destination that could be a secret', () => {
    const secrets = { http: { url: 'https://x.example/a?X-Amz-Signature=pl4nted' } };
    registry.onRead('vms/a', storedRequest('a', undefined, secrets));
    registry.onRead('vms/b', storedRequest('b', undefined, { http: { urlSecretRef: { name: 'address', key: 'url' } } }));
    assert.equal(registry.get('vms/a')?.destination?.address, 'https://x.example/a');
    assert.equal(registry.get('vms/b')?.destination?.address, 'the URL in Secret address');
  });

  it('tells of a running export by the second: phase, rate, what is left, and how far on the disk', () => {
    registry.onRead('vms/e', storedRequest('e'));
    const disk = { ...scannedDisk(), sentBytes: 5 * CLUSTER };
    const { observer } = registry.onBegin('vms/e');
    observer.onChange?.(disk);
    for (timeMs = 0; timeMs <= 2000; timeMs += 500) {
      disk.sentBytes = 5 * CLUSTER + (timeMs / 2000) * MIB;
      observer.onProgress?.(disk);
    }
    timeMs = 2000;
    const view = registry.get('vms/e') ?? assert.fail();
    assert.deepEqual([view.phase, view.isLive, view.bytesPerSecond, view.etaSeconds], ['Streaming', true, MIB / 2, 2]);
    assert.deepEqual([view.disks[0]?.sentUntilCluster, registry.mapOf('vms/e', 'disk.img')?.sentUntilCluster], [16, 16]);
    timeMs = 4000;
    assert.equal(registry.get('vms/e')?.bytesPerSecond, MIB / 4, 'nothing has come since');
  });

  it('does not fall back to an older status at the end, and keeps the picture', () => {
    registry.onRead('vms/e', storedRequest('e'));
    const disk = scannedDisk();
    const watcher = registry.onBegin('vms/e');
    watcher.observer.onChange?.(disk);
    registry.onStatus('vms/e', statusOf('Streaming', { disks: [{ path: 'disk.img', phase: 'Streaming', sentBytes: 1 }] }));
    Object.assign(disk, { phase: 'Failed', sentBytes: 5 * CLUSTER + MIB, failure: new DiskliftError('DestinationRejected', 'no') });
    watcher.observer.onChange?.(disk);
    watcher.end('Failed', disk.failure);
    assert.deepEqual([registry.get('vms/e')?.disks[0]?.phase, registry.get('vms/e')?.sentBytes], ['Failed', 5 * CLUSTER + MIB]);
    registry.onStatus('vms/e', statusOf('Failed', { disks: [{ path: 'disk.img', phase: 'Failed', sentBytes: 5 * CLUSTER + MIB }] }));
    assert.deepEqual([registry.get('vms/e')?.isLive, registry.mapOf('vms/e', 'disk.img')?.sentUntilCluster], [false, 16]);
  });

  it('keeps the pictures of no more disks than there is room for', () => {
    for (let index = 0; index < 300; index += 1) {
      registry.onRead(`vms/e${index}`, storedRequest(`e${index}`));
      const watcher = registry.onBegin(`vms/e${index}`);
      watcher.observer.onChange?.(scannedDisk());
      watcher.end('Succeeded');
      registry.onStatus(`vms/e${index}`, statusOf('Succeeded'));
    }
    const has = (index: number) => registry.mapOf(`vms/e${index}`, 'disk.img') !== undefined;
    assert.deepEqual([has(0), has(43), has(44), has(299)], [false, false, true, true]);
  });

  it('says of an export that is deleted while it runs what becomes of it', () => {
    registry.onRead('vms/e', storedRequest('e'));
    const watcher = registry.onBegin('vms/e');
    watcher.observer.onChange?.(scannedDisk());
    registry.onRead('vms/e', undefined);
    assert.equal(registry.get('vms/e')?.phase, 'Streaming');
    watcher.end('Cancelled', new DiskliftError('Cancelled', 'deleted'));
    registry.onRead('vms/e', undefined);
    assert.equal(registry.get('vms/e'), undefined);
  });

  describe('asked for exports', () => {
    const query = (text: string) => queryExports(registry, parseQuery(new URLSearchParams(text)));
    beforeEach(() => {
      for (let index = 0; index < 3000; index += 1) {
        const phase = index % 3 === 0 ? 'Succeeded' : index % 3 === 1 ? 'Failed' : 'Pending';
        registry.onRead(`vms/e${index}`, storedRequest(`e${index}`, statusOf(phase, { message: `says ${index}` })));
      }
      registry.onRead('vms/runs', storedRequest('runs', statusOf('Streaming')));
    });

    it('gives a page of them, what runs first, and counts all', () => {
      const page = query('limit=10');
      assert.deepEqual([page.items.length, page.total, page.matched], [10, 3001, 3001]);
      assert.deepEqual([page.items[0]?.name, page.items[1]?.phase], ['runs', 'Pending']);
      assert.deepEqual([page.counts.Succeeded, page.counts.Failed, page.counts.Streaming], [1000, 1000, 1]);
      const names = new Set([0, 1, 2].flatMap((at) => query(`limit=10&offset=${at * 10}`).items.map(({ name }) => name)));
      assert.equal(names.size, 30, 'pages do not overlap');
    });

    it('finds words, phases and namespaces', () => {
      assert.deepEqual(
        query('search=SAYS+2999').items.map(({ name }) => name),
        ['e2999'],
      );
      assert.equal(query('phase=Failed,Cancelled').matched, 1000);
      assert.equal(query('phase=Failed&phase=Streaming').matched, 1001);
      assert.equal(query('namespace=other').matched, 0);
      assert.equal(query('namespace=vms&search=claim').matched, 3001);
    });

    it('refuses what cannot be meant', () => {
      for (const text of ['limit=0', 'limit=201', 'limit=1e1', 'offset=-1', 'phase=Done', `search=${'x'.repeat(201)}`])
        assert.throws(() => query(text), { code: 'InvalidRequest' }, text);
    });

    it('counts phases as they are', () => {
      assert.equal(countPhases([]).Failed, 0);
    });
  });
});
