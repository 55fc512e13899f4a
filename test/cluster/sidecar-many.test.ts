/**
 * Three hundred DiskExports at once: all of them arrive, with bounded memory and a bounded number of requests to the
 * API server.
 */

// Runs alone: it measures how much memory a sidecar takes.

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { MIB } from '../../src/common/bytes.ts';
import { startHttpSink } from '../helpers/http-sink.ts';
import { diskExport } from '../helpers/manifest.ts';
import { peakMemoryBytes, residentBytes } from '../helpers/process-memory.ts';
import type { Sidecar } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import type { AuditedRequest } from './audit-log.ts';
import { type AuditedApiServer, startAuditedApiServer } from './audited-api-server.ts';
import { applyChartAccount } from './chart-account.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';

const EXPORTS = 300;
const LIMIT_MS = 150_000;

/**
 * Requests of an export that arrives at the first attempt, within two seconds. Ten are certain: statuses (queued,
 * claimed, streaming, ended), the Lease (created, deleted), the pods, and three events. The rest is for renewals of the
 * Lease and another status on a busy machine. The number does not grow with the number of exports.
 */
const REQUESTS_EACH = 13;
/** Requests that do not depend on exports: one list, and the watches of some minutes. */
const REQUESTS_OF_ALL = 10;

/** The chart's limit is 512 MiB. */
const MAX_RESIDENT_BYTES = 448 * MIB;
/** The memory that half of the exports may add. The sidecar keeps only the metrics and the object of each. */
const MAX_GROWTH_BYTES = 64 * MIB;

describe('many DiskExports at once', function () {
  this.timeout(240_000);
  const temp = useTempDir();
  let api: AuditedApiServer;
  let namespace: Namespace;

  before(async function () {
    api = await startAuditedApiServer(this);
    await installCrd(api);
    namespace = await createNamespace(api);
  });

  after(async () => {
    await api?.stop();
  });

  async function countFinished(): Promise<number> {
    const { body } = await namespace.request('diskexports');
    const items = body.items as { status?: { phase?: string; completionTime?: string; message?: string } }[];
    const finished = items.filter(({ status }) => status?.completionTime !== undefined);
    for (const { status } of finished) assert.equal(status?.phase, 'Succeeded', status?.message);
    return finished.length;
  }

  /** @returns samples of the sidecar's resident memory, by the number of ended exports */
  async function watchMemory(sidecar: Sidecar): Promise<{ ended: number; bytes: number }[]> {
    const samples: { ended: number; bytes: number }[] = [];
    for (const endMs = performance.now() + LIMIT_MS; ; await sleep(1000)) {
      const ended = await countFinished();
      samples.push({ ended, bytes: residentBytes(sidecar.process.pid as number) });
      if (ended === EXPORTS) return samples;
      assert.ok(performance.now() < endMs, `${ended} have ended: ${sidecar.output().slice(-2000)}`);
    }
  }

  it('all arrive, once each, and memory and the number of requests stay bounded', async () => {
    const account = await applyChartAccount(api, namespace.name);
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 4 * MIB, [{ offsetBytes: MIB, lengthBytes: MIB, content: 'random' }]);
    await using sink = await startHttpSink();
    await using sidecar = await namespace.start({
      volumes: [`claim=${temp('volume')}`],
      flags: ['--kubeconfig', account.kubeconfig, '--max-concurrent-exports', '4'],
    });
    const names = Array.from({ length: EXPORTS }, (_, index) => `export-${index}`);
    const items = names.map((name) => diskExport(name, { http: { url: `${sink.url}/{name}` } }));
    for (const { metadata } of items) metadata.namespace = namespace.name;
    await writeFile(temp('all.json'), JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
    const applying = api.kubectl('apply', '--filename', temp('all.json'));
    const samples = await watchMemory(sidecar);
    assert.equal((await applying).code, 0);
    assert.equal(sink.requests.length, EXPORTS, 'none is sent twice');
    assert.equal(sink.complete.size, EXPORTS);
    const resident = samples.map(({ ended, bytes }) => `${ended}: ${Math.round(bytes / MIB)} MiB`).join(', ');
    const peakBytes = peakMemoryBytes(sidecar.process.pid as number);
    assert.ok(peakBytes < MAX_RESIDENT_BYTES, `${peakBytes} bytes at most; by exports that had ended ${resident}`);
    const half = samples.find(({ ended }) => ended >= EXPORTS / 2);
    assert.ok((samples.at(-1)?.bytes ?? 0) - (half?.bytes ?? 0) < MAX_GROWTH_BYTES, resident);
    assert.equal(await sidecar.stop(), 0);
    const asked = api.askedBy(account.user);
    assert.ok(asked.length <= EXPORTS * REQUESTS_EACH + REQUESTS_OF_ALL, countByKind(asked));
  });
});

function countByKind(requests: readonly AuditedRequest[]): string {
  const counts = Map.groupBy(requests, ({ resource, verb, status }) => `${resource} ${verb} ${status}`);
  return [...counts].map(([kind, each]) => `${each.length} ${kind}`).join(', ');
}
