/** Disks of a VirtualMachineBackup: the checkpoint that an incremental one counts from, and the allowed servers. */

import assert from 'node:assert/strict';
import { systemClock } from '../../../src/common/clock.ts';
import { createDestinationPolicy, createNetworkAccess } from '../../../src/network/destination-policy.ts';
import type { BaseImage } from '../../../src/receipts/contract.ts';
import { validateDiskExport } from '../../../src/resource/validate.ts';
import { type BackupEnvironment, findBackupDisks, isExportService } from '../../../src/wiring/backup-disks.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { diskExport } from '../../helpers/manifest.ts';

const URLS = {
  dataEndpoint: 'https://virt-export-monday.vms.svc/exports/root/data',
  mapEndpoint: 'https://virt-export-monday.vms.svc/exports/root/map',
};

interface Scene {
  uid: string;
  status: object;
  sourceKind: 'VirtualMachine' | 'VirtualMachineBackupTracker';
  latestCheckpoint: string | undefined;
  vmUid: string;
  claimName: string;
  volume: object;
  labels: Record<string, string>;
}

const scene = (facts: Partial<Scene> = {}): Scene => ({
  ...{
    uid: 'backup-uid',
    status: {},
    sourceKind: 'VirtualMachineBackupTracker',
    latestCheckpoint: 'sunday-2026',
    vmUid: 'vm-uid',
    claimName: 'db01-root',
    volume: URLS,
  },
  labels: { 'disklift.dev/credentials': 'true' },
  ...facts,
});

const REQUEST = validateDiskExport(
  diskExport('e', { s3: { bucket: 'backups', key: '{name}/{disk}' } }, { source: { virtualMachineBackup: { name: 'monday' } } }),
);

const cluster = { scope: 'External' as const, networks: [], serviceHost: '10.96.0.1' };
/** Names of Services lead to an address of the loopback, which no policy allows. */
const resolve = ((_host: string, options: { all?: boolean }, callback: (error: null, found: unknown, family?: number) => void) =>
  options.all ? callback(null, [{ address: '127.0.0.1', family: 4 }]) : callback(null, '127.0.0.1', 4)) as never;

function environmentOf(facts: Scene): BackupEnvironment {
  const conditions = ['Progressing', 'ExportReady'].map((type) => ({ type, status: 'True', reason: 'ready' }));
  const there = (object: object) => ({ get: async () => object as never });
  return {
    backups: {
      virtualMachineBackups: {
        get: async () =>
          ({
            metadata: { name: 'monday', uid: facts.uid },
            spec: { mode: 'Pull', tokenSecretRef: 'token', source: { kind: facts.sourceKind, name: 'nightly' } },
            status: {
              ...{ type: 'Incremental', checkpointName: 'monday-2026', endpointCert: 'PEM', conditions },
              includedVolumes: [{ volumeName: 'root', ...facts.volume }],
              ...facts.status,
            },
          }) as never,
      },
      virtualMachineBackupTrackers: {
        get: async () =>
          ({
            metadata: { name: 'nightly' },
            spec: { source: { name: 'db01' } },
            status: facts.latestCheckpoint === undefined ? {} : { latestCheckpoint: { name: facts.latestCheckpoint } },
          }) as never,
      },
      virtualMachines: there({
        metadata: { uid: facts.vmUid },
        spec: {
          template: {
            spec: {
              volumes: [
                { name: 'data', persistentVolumeClaim: { claimName: 'db01-data' } },
                { name: 'root', dataVolume: { name: facts.claimName } },
              ],
            },
          },
        },
      }),
    },
    access: createNetworkAccess(createDestinationPolicy({ allow: [], deny: [], cluster }), resolve),
    clusterAccess: createNetworkAccess(
      createDestinationPolicy({ allow: [], deny: [], cluster: { ...cluster, scope: 'Cluster' } }),
      resolve,
    ),
    resolve: async () => ({ labels: facts.labels, annotations: {}, data: { token: Buffer.from('secret') } }),
    referencesMayCome: false,
    proxy: {},
    clock: systemClock,
    random: () => 0,
  };
}

const CHECKPOINT = { vm: 'db01', vmUid: 'vm-uid', name: 'sunday-2026', claim: 'db01-root' };
const BASE = { points: { checkpoint: CHECKPOINT }, location: 's3://b/sunday' } as BaseImage;

async function open(facts: Partial<Scene>, base: BaseImage | undefined = BASE, change?: (facts: Scene) => void) {
  const there = scene(facts);
  const [disk] = await findBackupDisks(REQUEST, environmentOf(there), NEVER);
  assert.ok(disk !== undefined);
  change?.(there);
  const source = disk.openSource(NEVER, base);
  return { disk, source };
}

const refused = async (
  facts: Partial<Scene>,
  message: RegExp,
  code: string,
  base: BaseImage | undefined = BASE,
  change?: (facts: Scene) => void,
) =>
  assert.rejects((await open(facts, base, change)).source, (error: Error & { code?: string }) => {
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /secret/);
    return true;
  });

/** All is right up to the connection, which the policy refuses here. */
const REACHED = [/virt-export-monday\.vms\.svc \(127\.0\.0\.1\): the destination policy/, 'DestinationNotAllowed'] as const;

describe('a disk of a VirtualMachineBackup', () => {
  describe('with a base', () => {
    it('counts from the checkpoint of the base, where the tracker is still at that', () => refused({}, ...REACHED));

    const missing: Readonly<Record<string, [facts: Partial<Scene>, base: object, message: RegExp]>> = {
      'is full': [{ status: { type: 'Full' } }, CHECKPOINT, /is a full one/],
      'has another checkpoint as its base': [
        { latestCheckpoint: 'saturday-2026' },
        CHECKPOINT,
        /since the checkpoint saturday-2026, and the base s3:\/\/b\/sunday is of sunday-2026/,
      ],
      'has moved its tracker on': [{ latestCheckpoint: 'monday-2026' }, CHECKPOINT, /does not show any more from which checkpoint/],
      'has a tracker without a checkpoint': [{ latestCheckpoint: undefined }, CHECKPOINT, /does not show any more/],
      'has no tracker': [{ sourceKind: 'VirtualMachine' }, CHECKPOINT, /does not show any more/],
      'is of a VM that was created again': [{ vmUid: 'other' }, CHECKPOINT, /is of another VM/],
      'has another claim under the name of the volume': [
        { claimName: 'restore-1-root' },
        CHECKPOINT,
        /has the volume root of the claim restore-1-root, and the base s3:\/\/b\/sunday is of the claim db01-root/,
      ],
      'has a claim that the base does not name': [{}, { ...CHECKPOINT, claim: undefined }, /and the base s3:\/\/b\/sunday is of no claim/],
      'is of another VM': [{}, { ...CHECKPOINT, vm: 'db02' }, /is of another VM/],
    };
    for (const [what, [facts, checkpoint, message]] of Object.entries(missing))
      it(`is ChangesMissing where the backup ${what}`, () =>
        refused(facts, message, 'ChangesMissing', { ...BASE, points: { checkpoint } } as BaseImage));

    it('is ChangesMissing where the receipt names no checkpoint', () =>
      refused({}, /the receipt of the base s3:\/\/b\/sunday names no checkpoint/, 'ChangesMissing', { ...BASE, points: {} } as BaseImage));
  });

  it('has the checkpoint of the backup for its receipt', async () => {
    const { disk, source } = await open({});
    await assert.rejects(source);
    assert.deepEqual(disk.points, { checkpoint: { vm: 'db01', vmUid: 'vm-uid', name: 'monday-2026', claim: 'db01-root' } });
    const other = await open({ sourceKind: 'VirtualMachine', status: { type: 'Full' } });
    await assert.rejects(other.source);
    assert.deepEqual(other.disk.points, {}, 'no later backup can count from it');
  });

  it('is refused when the backup was created again under its name', () =>
    refused({}, /was deleted and created again/, 'SourceChanged', BASE, (facts) => {
      facts.uid = 'another';
    }));

  it('is refused when another pod of its Job has begun with a backup that was created again since', async () => {
    const plan = (backupUid: string | undefined) =>
      findBackupDisks(REQUEST, { ...environmentOf(scene()), worker: { backupUid } }, NEVER).then(([disk]) => disk?.path);
    assert.deepEqual([await plan('backup-uid'), await plan(undefined)], ['root', 'root']);
    await assert.rejects(plan('the-first'), (error: Error & { code?: string; retryable?: boolean }) => {
      assert.match(error.message, /monday was deleted and created again; create another DiskExport/);
      assert.deepEqual([error.code, error.retryable], ['SourceChanged', false]);
      return true;
    });
  });

  it('is refused for endpoints without TLS, at two servers, or in the cluster beside the Service of the export', async () => {
    await refused({ volume: { ...URLS, mapEndpoint: 'http://a/map' } }, /no URL of https/, 'SourceNotFound');
    await refused({ volume: { ...URLS, mapEndpoint: 'https://other.example/map' } }, /endpoints at two servers/, 'SourceNotFound');
    const elsewhere = { dataEndpoint: 'https://prometheus.monitoring.svc/data', mapEndpoint: 'https://prometheus.monitoring.svc/map' };
    await refused(
      { volume: elsewhere },
      /prometheus\.monitoring\.svc: the destination policy does not allow it: it lies in the cluster/,
      'DestinationNotAllowed',
    );
  });

  it('is refused when the Secret of the token has no label', () => refused({ labels: {} }, /has no label/, 'CredentialsInvalid'));

  it('takes for the Service of the export only the one of its own backup', () => {
    const backup = { namespace: 'vms', name: 'monday' };
    const is = (url: string, of = backup) => isExportService(new URL(url), of);
    assert.ok(is('https://virt-export-monday.vms.svc/exports/root/data'));
    for (const url of [
      'https://virt-export-monday.other.svc/',
      'https://virt-export-tuesday.vms.svc/',
      'https://virt-export-monday.vms.svc:6443/',
      'https://a.virt-export-monday.vms.svc/',
      'https://example.org/',
    ])
      assert.ok(!is(url), url);
    // KubeVirt shortens such a name, and adds a hash.
    const long = { namespace: 'vms', name: 'x'.repeat(60) };
    assert.ok(is('https://virt-export-xxxxxxxx-1234abcd.vms.svc/', long));
    assert.ok(!is('https://elsewhere.vms.svc/', long));
  });
});
