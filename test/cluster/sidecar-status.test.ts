/**
 * Statuses that a real API server could refuse: the export ends, its final status can be read, and nothing is sent
 * twice.
 */

// Shares a process: API server

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { exportStatusOf } from '../../src/engine/export-status.ts';
import { statusesByLength } from '../../src/engine/status-writer.ts';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { statusPatch } from '../../src/stores/kubernetes/store/status-queue.ts';
import { extremeExports } from '../helpers/extreme-exports.ts';
import { freePort } from '../helpers/free-port.ts';
import { startHttpSink } from '../helpers/http-sink.ts';
import { createLongPaths } from '../helpers/long-paths.ts';
import { diskExport } from '../helpers/manifest.ts';
import { SEED, SEED_TEXT } from '../helpers/seed.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import type { ApiServer } from './api-server.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { useApiServer } from './use-api-server.ts';

const MERGE = 'application/merge-patch+json';

describe('the status of an export on an API server', function () {
  this.timeout(120_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;
  let volumes: string[];

  before(async function () {
    api = await useApiServer(this);
    await installCrd(api);
  });

  beforeEach(async () => {
    namespace = await createNamespace(api);
    await mkdir(temp('volume'));
    volumes = [`claim=${temp('volume')}`];
  });

  it('is accepted for 64 disks with long paths, before any has arrived and after all have', async () => {
    const paths = await createLongPaths(temp('volume'));
    const source = { persistentVolumeClaim: { claimName: 'claim' }, disks: paths.map((path) => ({ path })) };
    await using sink = await startHttpSink();
    await using sidecar = await namespace.start({ volumes });
    const nobody = `http://127.0.0.1:${await freePort()}/{disk}`;
    await namespace.apply(diskExport('failing', { http: { url: nobody } }, { source, backoffLimit: 0 }));
    await namespace.apply(diskExport('arriving', { http: { url: `${sink.url}/{disk}` } }, { source }));
    const failing = await namespace.finished('failing');
    assert.deepEqual([failing.phase, failing.disks?.length], ['Failed', 64]);
    assert.match(failing.message ?? '', /and 54 more\)$/);
    const arriving = await namespace.finished('arriving');
    assert.equal(arriving.phase, 'Succeeded', arriving.message);
    assert.equal(arriving.disks?.filter(({ location, sha256 }) => location !== undefined && sha256 !== undefined).length, 64);
    assert.ok(!/status is refused|cannot be written/.test(sidecar.output()));
    assert.equal(sink.requests.length, 64);
  });

  it('shows when the next attempt begins, until it has begun', async () => {
    await createDisk(temp('volume/disk.img'), 1024 * 1024, []);
    let failures = 2;
    await using sink = await startHttpSink({
      onExpect: (_request, response) => {
        failures -= 1;
        if (failures >= 0) response.writeHead(503, { 'retry-after': '6' }).end();
        else response.writeContinue();
      },
    });
    await using _sidecar = await namespace.start({ volumes });
    await namespace.apply(diskExport('again', { http: { url: `${sink.url}/{name}` } }));
    const waiting = await namespace.until('again', (object) => object?.status?.nextAttemptTime !== undefined);
    const inMs = Date.parse(waiting?.status?.nextAttemptTime ?? '') - Date.now();
    assert.ok(inMs > 1000 && inMs <= 7000, `${inMs} ms`);
    assert.equal(waiting?.status?.phase, 'Pending');
    await namespace.until('again', (object) => object?.status?.attempts === 3 && object.status.nextAttemptTime === undefined);
    await namespace.edit('again', { cancel: true });
    assert.equal((await namespace.finished('again')).nextAttemptTime, undefined);
  });

  it(`is accepted with any texts of disks, destinations and pods, in every form ${SEED_TEXT}`, async () => {
    const { metadata } = await namespace.apply(diskExport('extreme', { http: { url: 'http://sink.example/x' } }));
    await fc.assert(
      fc.asyncProperty(extremeExports({ isPatient: true }), async (facts) => {
        for (const status of statusesByLength(exportStatusOf(facts, undefined))) {
          const place = `diskexports/${metadata.name}/status?fieldValidation=Strict`;
          const body = { status: statusPatch(status) };
          const answer = await namespace.request(place, { method: 'PATCH', body, contentType: MERGE });
          assert.equal(answer.status, 200, JSON.stringify(answer.body).slice(0, 2000));
        }
      }),
      { seed: SEED, numRuns: 20 },
    );
  });

  describe('where a policy of the cluster refuses it', () => {
    const PLACE = '/apis/admissionregistration.k8s.io/v1';

    /** @param expression CEL that a status must fulfil */
    async function refuseUnless(expression: string): Promise<void> {
      const name = namespace.name;
      const policy = {
        metadata: { name },
        spec: {
          matchConstraints: {
            namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': name } },
            resourceRules: [{ apiGroups: ['disklift.dev'], apiVersions: ['*'], operations: ['UPDATE'], resources: ['diskexports/status'] }],
          },
          validations: [{ expression, message: 'our policy' }],
        },
      };
      const binding = { metadata: { name }, spec: { policyName: name, validationActions: ['Deny'] } };
      for (const [kind, body] of [
        ['validatingadmissionpolicies', policy],
        ['validatingadmissionpolicybindings', binding],
      ] as const)
        assert.equal((await api.request(`${PLACE}/${kind}`, { method: 'POST', body })).status, 201);
      const { metadata } = await namespace.apply(diskExport('probe', { http: { url: 'http://sink.example/x' } }));
      const refused: DiskExportStatus = {
        completionTime: '2026-01-01T00:00:00Z',
        progress: { percent: 0, virtualBytes: 0, imageBytes: 0, sentBytes: 0, skippedBytes: 0, written: '0' },
      };
      // The API server takes a moment to enforce it.
      await until('the policy', async () => {
        const patch = { method: 'PATCH', body: { status: refused }, contentType: MERGE } as const;
        return (await namespace.request(`diskexports/${metadata.name}/status`, patch)).status === 422;
      });
      await namespace.remove('probe');
      await namespace.until('probe', (object) => object === undefined);
    }

    async function dropPolicy(): Promise<void> {
      for (const kind of ['validatingadmissionpolicybindings', 'validatingadmissionpolicies'])
        await api.request(`${PLACE}/${kind}/${namespace.name}`, { method: 'DELETE' });
    }

    it('is replaced by a shorter final status that has the receipt', async () => {
      await createDisk(temp('volume/disk.img'), 1024 * 1024, []);
      await refuseUnless('!has(object.status.progress)');
      await using sink = await startHttpSink();
      await using sidecar = await namespace.start({ volumes });
      await namespace.apply(diskExport('brief', { http: { url: `${sink.url}/{name}` } }));
      const { phase, disks, conditions } = await namespace.finished('brief');
      assert.deepEqual([phase, disks?.[0]?.path, disks?.[0]?.location], ['Succeeded', 'disk.img', `${sink.url}/brief`]);
      assert.match(disks?.[0]?.sha256 ?? '', /^[0-9a-f]{64}$/);
      assert.equal(conditions?.find(({ type }) => type === 'Finished')?.status, 'True');
      assert.match(sidecar.output(), /a shorter one is written in its place: .*our policy/);
      await dropPolicy();
    });

    it('is written when the policy is deleted, and the image is sent only once', async () => {
      await createDisk(temp('volume/disk.img'), 1024 * 1024, []);
      await refuseUnless('!has(object.status.completionTime)');
      await using sink = await startHttpSink();
      await using sidecar = await namespace.start({ volumes, flags: ['--max-concurrent-exports', '1'] });
      await namespace.apply(diskExport('first', { http: { url: `${sink.url}/{name}` } }));
      await until('its image', () => sink.complete.has('/first'));
      await namespace.apply(diskExport('second', { http: { url: `${sink.url}/{name}` } }));
      await until('the next image, although the first keeps being refused', () => sink.complete.has('/second'));
      await sleep(3000);
      await dropPolicy();
      for (const name of ['first', 'second']) assert.equal((await namespace.finished(name)).phase, 'Succeeded');
      assert.deepEqual(
        sink.requests.map(({ url }) => url),
        ['/first', '/second'],
      );
      assert.equal(await sidecar.stop(), 0);
      assert.deepEqual(await namespace.leases(), []);
    });
  });
});
