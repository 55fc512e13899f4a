/**
 * Exports of the controller that end early, or cannot begin. Nothing of them stays in the cluster or at the
 * destination.
 */

// Runs alone: a dozen programs, and deadlines of the test's own.

import assert from 'node:assert/strict';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { startHttpSink } from '../helpers/http-sink.ts';
import { diskExport } from '../helpers/manifest.ts';
import { createTestAuthority } from '../helpers/test-authority.ts';
import { until } from '../helpers/until.ts';
import { installCrd } from './install-crd.ts';
import { loosenCrd } from './loosen-crd.ts';
import { useFleet } from './use-fleet.ts';

const LIMIT_MS = 60_000;

/** With a snapshot and a clone, so that each end has something to remove. */
const SNAPSHOT = { mode: 'Always' };

/** Rights of workers that are used now and then: for a repeated event, and for an object that is too old. */
const RARE = ['diskexports get', 'events patch'];

/**
 * Rights that no scene here uses: for KubeVirt's backups (worker-backup.test.ts), and the one that the SnapshotMetadata
 * service of a CSI driver requires.
 */
const ELSEWHERE = ['virtualmachinebackups get', 'virtualmachinebackuptrackers get', 'virtualmachines get', 'volumesnapshots get'];

/** In the order in which the export meets them. The claim to export is there already. */
const QUOTAS = {
  snapshots: { 'count/volumesnapshots.snapshot.storage.k8s.io': '0' },
  claims: { persistentvolumeclaims: '1' },
  pods: { pods: '0' },
};

describe('an export of the controller', function () {
  this.timeout(180_000);
  const fleet = useFleet();

  const reasonOf = ({ conditions = [] }: DiskExportStatus) => conditions.find(({ type }) => type === 'Succeeded')?.reason;
  const outcomeOf = (status: DiskExportStatus) => [status.phase, reasonOf(status)];

  const NAMES = ['deleted', 'cancelled', 'late'];

  /** Begins an export for each way to end it. @returns all objects of before */
  async function beginAll(deadlineSeconds: number): Promise<string[]> {
    const { scenes } = fleet;
    await Promise.all(NAMES.map((name) => scenes.claim(name)));
    const before = await scenes.objects();
    for (const name of NAMES)
      await scenes.exportToS3(name, name, {
        snapshot: SNAPSHOT,
        ...(name === 'late' ? { activeDeadlineSeconds: deadlineSeconds } : {}),
      });
    return before;
  }

  async function endAll(before: readonly string[]): Promise<DiskExportStatus> {
    const { scenes, namespace } = fleet;
    await namespace.remove('deleted');
    await scenes.cancel('cancelled');
    assert.deepEqual(outcomeOf(await scenes.finished('cancelled')), ['Cancelled', 'Cancelled']);
    const late = await scenes.finished('late');
    assert.deepEqual(outcomeOf(late), ['Failed', 'DeadlineExceeded'], late.message);
    await scenes.gone('deleted');
    await scenes.assertNothingLeft(before);
    assert.deepEqual([fleet.s3.store.uploads.size, fleet.s3.store.objects.size], [0, 0]);
    return late;
  }

  it('ends by deletion, by cancel and at its deadline while its pod cannot start', async () => {
    const { scenes, runner } = fleet;
    await using _ = fleet.startController();
    runner.hold(true);
    const before = await beginAll(10);
    for (const name of NAMES) await scenes.status(name, (status) => reasonOf(status) === 'Starting');
    const late = await endAll(before);
    assert.match(late.message ?? '', /did not end within 10 seconds; the last state: a pod is being started/);
    assert.equal(runner.started.size, 0);
  });

  it('ends by deletion, by cancel and at its deadline while its image is sent', async () => {
    const { s3 } = fleet;
    await using _ = fleet.startController();
    s3.quirks.push({ operation: 'UploadPart', does: 'hang' });
    const before = await beginAll(20);
    // The third one has only until its deadline.
    const sends = (name: string) => s3.requests.some(({ operation, key }) => operation === 'UploadPart' && key.endsWith(`/${name}`));
    await until('they send', () => sends('deleted') && sends('cancelled'), LIMIT_MS);
    await endAll(before);
  });

  it('aborts its upload when its namespace is deleted, and the namespace ends', async () => {
    const { scenes, s3, namespace, api } = fleet;
    await using _ = fleet.startController();
    await scenes.claim('root');
    s3.quirks.push({ operation: 'UploadPart', after: 1, does: 'hang' });
    await scenes.exportToS3('first', 'root', { snapshot: SNAPSHOT });
    await until('it sends', () => s3.count('UploadPart') > 1, LIMIT_MS);
    const place = `/api/v1/namespaces/${namespace.name}`;
    await api.request(place, { method: 'DELETE' });
    await until('the namespace is gone', async () => (await api.request(place)).status === 404, LIMIT_MS);
    assert.deepEqual([s3.store.uploads.size, s3.store.objects.size], [0, 0]);
    await until('the driver has nothing of it', () => fleet.storage.contents().every((each) => !each.startsWith('snapshot-')), LIMIT_MS);
  });

  it('says what is wrong with it when it is invalid, and begins nothing', async () => {
    const { scenes, namespace, api } = fleet;
    await loosenCrd(api, namespace);
    try {
      await using controller = fleet.startController();
      await scenes.claim('root');
      const before = await scenes.objects();
      const source = { persistentVolumeClaim: { claimName: 'root' } };
      await namespace.apply(diskExport('two', { http: { url: 'https://a.example/a' }, tcp: { host: 'a.example', port: 1 } }, { source }));
      const status = await scenes.finished('two');
      assert.deepEqual(outcomeOf(status), ['Failed', 'InvalidRequest']);
      assert.match(status.message ?? '', /spec\.destination/);
      await scenes.assertNothingLeft(before);
      assert.deepEqual(
        controller.warnings.filter((each) => each.includes('two')),
        [],
      );
      await namespace.remove('two');
    } finally {
      await installCrd(api);
    }
  });

  it('says within seconds that the image of its pod cannot be pulled, and goes on when it can', async () => {
    const { scenes, runner } = fleet;
    await using _ = fleet.startController();
    const disk = await scenes.claim('root');
    const before = await scenes.objects();
    runner.failImages(true);
    await scenes.export('first', 'root');
    await scenes.status('first', (there) => reasonOf(there) === 'Starting');
    const startMs = performance.now();
    const waiting = await scenes.status('first', (there) => reasonOf(there) === 'ImagePullFailed');
    assert.ok(performance.now() - startMs < 10_000, `${performance.now() - startMs} ms`);
    assert.match(waiting.message ?? '', /ErrImagePull: failed to pull registry\.example\/disklift:test/);
    runner.failImages(false);
    assert.equal((await scenes.finished('first')).phase, 'Succeeded');
    await scenes.assertArrived('first', disk);
    await scenes.assertNothingLeft(before);
  });

  it('shows which quota it exceeds, and goes on when the quota is lifted', async () => {
    const { scenes, namespace } = fleet;
    await using _ = fleet.startController();
    const disk = await scenes.claim('root');
    const made = (name: string) => namespace.request(`resourcequotas/${name}`);
    for (const [name, hard] of Object.entries(QUOTAS)) {
      const { status, body } = await namespace.request('resourcequotas', { method: 'POST', body: { metadata: { name }, spec: { hard } } });
      assert.equal(status, 201, JSON.stringify(body));
      await until('the quota is counted', async () => (await made(name)).body.status?.used !== undefined, LIMIT_MS);
    }
    const before = await scenes.objects();
    await scenes.export('first', 'root', { snapshot: SNAPSHOT });
    for (const name of Object.keys(QUOTAS)) {
      const isBlocked = (there: DiskExportStatus) => there.message?.includes(`exceeded quota: ${name}`) ?? false;
      const status = await scenes.status('first', isBlocked);
      assert.deepEqual(outcomeOf(status), ['Pending', 'QuotaExceeded'], status.message);
      await namespace.request(`resourcequotas/${name}`, { method: 'DELETE' });
    }
    assert.equal((await scenes.finished('first')).phase, 'Succeeded');
    await scenes.assertArrived('first', disk);
    await scenes.assertNothingLeft(before);
  });

  it('goes on in another pod when its worker is killed', async () => {
    const { scenes, s3, runner } = fleet;
    await using _ = fleet.startController();
    await scenes.claim('root');
    const before = await scenes.objects();
    s3.quirks.push({ operation: 'UploadPart', after: 1, does: 'hang' });
    await scenes.exportToS3('first', 'root', { snapshot: SNAPSHOT });
    await until('it sends', () => s3.count('UploadPart') > 1, LIMIT_MS);
    s3.quirks.length = 0;
    const parts = s3.count('UploadPart');
    for (const worker of runner.started.values()) worker.process.kill('SIGKILL');
    const status = await scenes.finished('first');
    assert.deepEqual([...outcomeOf(status), runner.started.size], ['Succeeded', 'Completed', 2], status.message);
    assert.deepEqual([s3.count('CreateMultipartUpload'), s3.count('UploadPart')], [1, parts + 1], 'the second worker resumes the upload');
    await scenes.assertNothingLeft(before);
  });

  it('is deleted after its time to live, and its worker has read an authority of certificates', async () => {
    const { scenes, namespace, temp } = fleet;
    await using _ = fleet.startController();
    await scenes.claim('root');
    const before = await scenes.objects();
    const authority = await createTestAuthority(temp('.'));
    const { certificate: cert, key } = await authority.issue('sink', 'IP:127.0.0.1');
    await using sink = await startHttpSink({ tls: { cert, key } });
    const configMap = { metadata: { name: 'authorities' }, data: { 'ca.crt': authority.ca } };
    assert.equal((await namespace.request('configmaps', { method: 'POST', body: configMap })).status, 201);
    const http = { url: `${sink.url}/{name}`, tls: { caBundleRef: { configMap: 'authorities', key: 'ca.crt' } } };
    await scenes.export('short', 'root', { destination: { http }, ttlSecondsAfterFinished: 0 });
    await scenes.gone('short');
    assert.equal(sink.complete.size, 1);
    await scenes.assertNothingLeft([...before, 'configmaps authorities']);
  });

  it('has workers that have used each right of their ClusterRole by now', async () => {
    const { body } = await fleet.api.request('/apis/rbac.authorization.k8s.io/v1/clusterroles/disklift-worker');
    const rules = body.rules as { resources: string[]; verbs: string[] }[];
    const permitted = rules.flatMap(({ resources, verbs }) => resources.flatMap((each) => verbs.map((verb) => `${each} ${verb}`)));
    const used = new Set(fleet.requests().ofWorkers.map(({ resource, verb }) => `${resource} ${verb}`));
    const isUnused = (each: string) => !used.has(each) && !RARE.includes(each);
    assert.deepEqual(permitted.filter(isUnused), ELSEWHERE);
  });
});
