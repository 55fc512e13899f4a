/**
 * Incremental exports of a Block claim in use: the controller keeps the snapshot of the newest image, and the worker
 * gets the changes since then from the real csi-snapshot-metadata.
 */

// Runs alone: a dozen programs, and deadlines of the test's own.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { open, truncate } from 'node:fs/promises';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { diskExport } from '../helpers/manifest.ts';
import { type Nginx, startNginx } from '../helpers/nginx.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { until } from '../helpers/until.ts';
import { requireBinaries } from './kubernetes-binaries.ts';
import { METADATA_PROGRAM, type MetadataServiceOfTest, startMetadataService } from './metadata-service.ts';
import { DRIVER, SNAPSHOT_CLASSES } from './node/storage.ts';
import { useFleet } from './use-fleet.ts';

const MIB = 1024 * 1024;
const SIZE_BYTES = 32 * MIB;

interface KeptSnapshot {
  metadata: {
    name: string;
    labels: Record<string, string>;
    annotations: Record<string, string>;
    ownerReferences: { kind: string; name: string }[];
  };
}

describe('incremental exports by the SnapshotMetadata service', function () {
  this.timeout(240_000);
  const fleet = useFleet({ hasDevices: true });
  let metadata: MetadataServiceOfTest;
  let server: Nginx;
  let disk: string;
  /** Volumes of earlier tests, whose namespaces may still be ending. */
  let others: string[];

  before(function () {
    requireBinaries(this, METADATA_PROGRAM);
  });

  beforeEach(async () => {
    mkdirSync(fleet.temp('server'));
    metadata = await startMetadataService(fleet.api, fleet.storage);
    await metadata.announce(true);
    server = await startNginx(fleet.temp('server'), 'dav_methods PUT; create_full_put_path on; client_max_body_size 0;');
    others = fleet.storage.contents();
    disk = await fleet.scenes.claim('root', { mode: 'Block' });
    await truncate(disk, SIZE_BYTES);
    await fleet.scenes.writer('root');
  });

  afterEach(async function () {
    if (this.currentTest?.state === 'failed') console.error(metadata.log().slice(-3000));
    await server[Symbol.asyncDispose]();
    await metadata[Symbol.asyncDispose]();
  });

  async function run(
    name: string,
    spec: Record<string, unknown> = {},
    incremental: Record<string, unknown> = {},
  ): Promise<DiskExportStatus> {
    const destination = { http: { url: `${server.url}/vms/{name}.qcow2` } };
    const source = { persistentVolumeClaim: { claimName: 'root' } };
    const tracked = { tracker: '/vms/latest.json', ...incremental };
    await fleet.namespace.apply(diskExport(name, destination, { source, receipt: true, incremental: tracked, ...spec }));
    return await fleet.scenes.finished(name);
  }

  function typeOf({ phase, message, disks = [] }: DiskExportStatus): unknown[] {
    assert.equal(phase, 'Succeeded', message);
    const [{ type, typeReason } = {}] = disks;
    return [type, typeReason];
  }

  const SNAPSHOTS = '/apis/snapshot.storage.k8s.io/v1';
  const place = (name = '') => `${SNAPSHOTS}/namespaces/${fleet.namespace.name}/volumesnapshots${name && `/${name}`}`;

  async function snapshots(): Promise<KeptSnapshot[]> {
    return (await fleet.api.request(place())).body.items;
  }

  /** Waits until the only snapshot left is kept for the claim. @returns its name */
  async function kept(): Promise<string> {
    await until(
      'one snapshot is left, which the claim owns',
      async () => {
        const [only, ...others] = await snapshots();
        return others.length === 0 && only?.metadata.ownerReferences.some(({ kind }) => kind === 'PersistentVolumeClaim') === true;
      },
      60_000,
    ).catch(async () => assert.fail(JSON.stringify(await snapshots(), null, 2)));
    const [{ metadata: found }] = (await snapshots()) as [KeptSnapshot];
    assert.deepEqual(
      found.ownerReferences.map(({ kind, name }) => [kind, name]),
      [['PersistentVolumeClaim', 'root']],
    );
    assert.equal(found.annotations['disklift.dev/tracker'], '/vms/latest.json');
    return found.name;
  }

  async function write(...offsets: number[]): Promise<void> {
    await using file = await open(disk, 'r+');
    for (const [index, offset] of offsets.entries()) await file.write(Buffer.alloc(70_000, index % 2 === 0 ? 0xb7 : 0), 0, 70_000, offset);
    await file.sync();
  }

  const image = (name: string) => server.file(`vms/${name}.qcow2`);
  const receiptOf = (name: string) => JSON.parse(readFileSync(`${image(name)}.json`, 'utf8'));

  it('send what has changed between two snapshots, and one snapshot stays', async () => {
    const { scenes } = fleet;
    await using _ = fleet.startController();
    const before = await scenes.objects();
    const truth0 = await scenes.keep(disk, 'day-0');
    const first = await run('day-0');
    assert.deepEqual(typeOf(first), ['Full', 'FirstImage']);
    // The driver's list of allocated blocks is read, and no hole: 5 MiB of data, twice, and looks at the gaps.
    assert.ok((first.disks?.[0]?.readBytes ?? 0) < 12 * MIB, `${first.disks?.[0]?.readBytes} bytes were read`);
    const firstSnapshot = await kept();
    const { points } = receiptOf('day-0');
    assert.deepEqual([points.snapshot.driver, points.snapshot.name], [DRIVER, firstSnapshot]);
    await assertImageOf(image('day-0'), truth0);

    await write(2 * MIB, 4 * MIB, SIZE_BYTES - 70_000);
    const truth1 = await scenes.keep(disk, 'day-1');
    const second = await run('day-1');
    assert.deepEqual(typeOf(second), ['Incremental', 'SnapshotMetadata']);
    assert.ok((second.disks?.[0]?.readBytes ?? 0) < 2 * MIB, `${second.disks?.[0]?.readBytes} bytes were read`);
    await assertImageOf(image('day-1'), truth1);
    const secondSnapshot = await kept();
    assert.notEqual(secondSnapshot, firstSnapshot);

    await write(20 * MIB);
    const truth2 = await scenes.keep(disk, 'day-2');
    assert.deepEqual(typeOf(await run('day-2', {}, { changes: 'SnapshotMetadata', fallback: 'Fail' })), [
      'Incremental',
      'SnapshotMetadata',
    ]);
    await assertImageOf(image('day-2'), truth2);
    const last = await kept();

    // A user ends the tracker by deleting its snapshot.
    assert.equal((await fleet.api.request(place(last), { method: 'DELETE' })).status, 200);
    await scenes.assertNothingLeft(before);
  });

  it('are full, and say why, when somebody has deleted the snapshot of the base', async () => {
    await using _ = fleet.startController();
    await run('day-0');
    const name = await kept();
    await fleet.api.request(place(name), { method: 'DELETE' });
    const ownContents = () => fleet.storage.contents().filter((each) => !others.includes(each));
    await until('the storage has only the claim', () => ownContents().length === 1, 60_000).catch(() =>
      assert.equal(ownContents().join(), 'the volume of the claim'),
    );
    const status = await run('day-1');
    assert.deepEqual(typeOf(status), ['Full', 'ChangesMissing']);
    const condition = status.conditions?.find(({ type }) => type === 'Incremental');
    assert.deepEqual([condition?.status, condition?.reason], ['False', 'FellBack']);
    assert.match(condition?.message ?? '', /NOT_FOUND/);
    assert.notEqual(await kept(), name);
  });

  it('are full when the driver reports ranges that cannot be, and the export that must not be full fails', async () => {
    await using _ = fleet.startController();
    await run('day-0');
    const base = await kept();
    const unordered = { snapshot: { mode: 'Always', className: SNAPSHOT_CLASSES.unordered } };
    const failed = await run('strict', unordered, { fallback: 'Fail' });
    assert.deepEqual([failed.phase, failed.disks?.[0]?.reason], ['Failed', 'ChangesRefused'], failed.message);
    // The failed export takes its own snapshot with it.
    assert.equal(await kept(), base);
    const beyond = { snapshot: { mode: 'Always', className: SNAPSHOT_CLASSES.beyond } };
    const truth = await fleet.scenes.keep(disk, 'day-1');
    assert.deepEqual(typeOf(await run('day-1', beyond)), ['Full', 'ChangesRefused']);
    await assertImageOf(image('day-1'), truth);
  });

  it('keep the snapshot of the base when a later export is cancelled, and lose it with the claim', async () => {
    const { scenes, runner, namespace } = fleet;
    await using _ = fleet.startController();
    await run('day-0');
    const base = await kept();
    runner.hold(true);
    const running = run('cancelled');
    await until('there are two snapshots', async () => (await snapshots()).length === 2, 60_000);
    await scenes.cancel('cancelled');
    assert.equal((await running).phase, 'Cancelled');
    assert.equal(await kept(), base);
    await namespace.request('pods/writer-root', { method: 'DELETE', body: { gracePeriodSeconds: 0 } });
    await namespace.request('persistentvolumeclaims/root', { method: 'DELETE' });
    await until('the snapshot is gone', async () => (await snapshots()).length === 0, 60_000);
  });

  it('say that the driver has no such service', async () => {
    await metadata.announce(false);
    await using _ = fleet.startController();
    assert.deepEqual(typeOf(await run('day-0', {}, { changes: 'SnapshotMetadata' })), ['Full', 'FirstImage']);
    await until('no snapshot is left', async () => (await snapshots()).length === 0, 60_000);
    const status = await run('day-1', {}, { changes: 'SnapshotMetadata' });
    assert.deepEqual(typeOf(status), ['Full', 'ChangesMissing']);
    assert.match(status.conditions?.find(({ type }) => type === 'Incremental')?.message ?? '', /no SnapshotMetadataService csi.test/);
  });
});
