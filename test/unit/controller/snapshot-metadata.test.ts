import assert from 'node:assert/strict';
import { DiskliftError } from '../../../src/common/errors.ts';
import type { MetadataFacts } from '../../../src/controller/observed.ts';
import { reconcile } from '../../../src/controller/reconcile.ts';
import { TRACKER_LABEL, trackerOf } from '../../../src/controller/snapshot-metadata/kept-snapshots.ts';
import { createMetadataLooks } from '../../../src/controller/snapshot-metadata/observe-metadata.ts';
import type { FleetApi } from '../../../src/stores/kubernetes/client/fleet-api.ts';
import type { VolumeSnapshotObject } from '../../../src/stores/kubernetes/client/fleet-objects.ts';
import { ago, CHOSEN, claimOf, observedOf, requestOf, SETTINGS, snapshotOf, volumeOf, WRITER } from './observed-facts.ts';

const TRACKED = { incremental: { tracker: '/vms/{claim}.json' } };
const CLAIM = claimOf();
const BLOCK = { ...CLAIM, spec: { ...CLAIM.spec, volumeMode: 'Block' } };
const SERVICE: Extract<MetadataFacts, { kind: 'service' }> = {
  kind: 'service',
  driver: 'csi.example',
  address: 'metadata.storage:6443',
  audience: 'metadata',
  caCert: 'UEVN',
  snapshot: undefined,
};
const READY = { readyToUse: true, boundVolumeSnapshotContentName: 'content-1' };

function labelled(snapshot: VolumeSnapshotObject, name = snapshot.metadata.name, createdAgo = 60): VolumeSnapshotObject {
  const metadata = {
    ...snapshot.metadata,
    name,
    uid: `uid-of-${name}`,
    creationTimestamp: ago(createdAgo),
    labels: { [TRACKER_LABEL]: 't' },
  };
  return { ...snapshot, metadata };
}

describe('snapshots that stay for the next image', () => {
  const inUse = (metadata: MetadataFacts | undefined, spec: object = TRACKED) =>
    reconcile(
      observedOf({ request: requestOf(spec), source: { volumes: [volumeOf({ ...WRITER, ...CHOSEN, claim: BLOCK, metadata })] } }),
      SETTINGS,
    );

  function labelsOf(decision: ReturnType<typeof reconcile>): Readonly<Record<string, string>> {
    const [action] = decision.actions;
    assert.ok(action?.kind === 'create' && action.resource === 'volumeSnapshots', JSON.stringify(decision));
    assert.equal(action.object.metadata.ownerReferences.length, 1, 'until its export has succeeded, the export owns it');
    return action.object.metadata.labels;
  }

  it('have the label of their tracker from the beginning, where the driver has the service', () => {
    assert.match(labelsOf(inUse(SERVICE))[TRACKER_LABEL] ?? '', /^[0-9a-f]{40}$/);
    assert.equal(labelsOf(inUse({ kind: 'none', message: 'no service' }))[TRACKER_LABEL], undefined);
    assert.equal(labelsOf(inUse(SERVICE, {}))[TRACKER_LABEL], undefined);
    assert.equal(labelsOf(inUse(SERVICE, { incremental: { base: '/vms/a.qcow2' } }))[TRACKER_LABEL], undefined);
  });

  it('are of one tracker by claim, destination and place', () => {
    const of = (spec: object) => trackerOf(requestOf({ ...TRACKED, ...spec }));
    assert.equal(of({}), of({ source: { persistentVolumeClaim: { claimName: 'root' }, inUse: 'Fail' } }));
    const others = [
      of({ source: { persistentVolumeClaim: { claimName: 'data' } } }),
      of({ incremental: { tracker: '/vms/other.json' } }),
      of({ destination: { http: { url: 'https://elsewhere.example/{name}.qcow2' } } }),
    ];
    assert.equal(new Set([of({}), ...others]).size, 4);
    for (const changes of ['BlockHashes']) assert.equal(of({ incremental: { tracker: '/t', changes } }), undefined);
    assert.equal(of({ source: { volumeSnapshot: { name: 'monday' } } }), undefined);
  });

  it('are taken of a claim that nobody uses where the request wants the changes from them', () => {
    const volume = volumeOf({ ...CHOSEN, claim: BLOCK, metadata: SERVICE });
    const kindOf = (spec: object) =>
      reconcile(observedOf({ request: requestOf(spec), source: { volumes: [volume] } }), SETTINGS).actions.map((action) =>
        action.kind === 'create' ? action.resource : action.kind,
      );
    assert.deepEqual(kindOf({ incremental: { tracker: '/t', changes: 'SnapshotMetadata' } }), ['volumeSnapshots']);
    assert.deepEqual(kindOf(TRACKED), ['ensure-access', 'jobs']);
  });

  const ended = (phase: 'Succeeded' | 'Failed' | 'Cancelled', parts: Parameters<typeof observedOf>[0] = {}) =>
    reconcile(
      observedOf({
        request: requestOf(TRACKED, { phase, completionTime: ago(60) }),
        children: { snapshots: new Map([[0, labelled(snapshotOf(READY))]]) },
        kept: { claim: BLOCK, earlier: [labelled(snapshotOf(READY), 'yesterday', 9000), labelled(snapshotOf(READY), 'newer', 1)] },
        ...parts,
      }),
      SETTINGS,
    ).actions.map((action) => ('object' in action ? [action.kind, action.object.metadata.name] : [action.kind]));

  it('replace the older ones of their tracker when their export has succeeded', () => {
    assert.deepEqual(ended('Succeeded'), [
      ['remove', 'yesterday'],
      ['keep-snapshot', 'disklift-u-1-0'],
    ]);
  });

  it('go with their export after every other end, and where the claim is gone', () => {
    const removed = [['remove', 'disklift-u-1-0']];
    for (const phase of ['Failed', 'Cancelled'] as const) assert.deepEqual(ended(phase, { kept: undefined }), removed);
    assert.deepEqual(ended('Succeeded', { kept: { claim: undefined, earlier: [] } }), removed);
  });

  it('are handed over when the clones are gone', () => {
    const snapshots = new Map([[0, labelled(snapshotOf(READY))]]);
    const clones = new Map([[0, claimOf('disklift-u-1-0')]]);
    assert.deepEqual(ended('Succeeded', { children: { snapshots, clones } }), [['remove', 'disklift-u-1-0']]);
  });
});

describe('the setting of a worker for the SnapshotMetadata service', () => {
  function jobOf(metadata: MetadataFacts | undefined, spec: object = TRACKED) {
    const { actions } = reconcile(
      observedOf({
        request: requestOf(spec),
        children: { snapshots: new Map([[0, labelled(snapshotOf(READY))]]) },
        source: { volumes: [volumeOf({ ...WRITER, claim: BLOCK, metadata })] },
      }),
      SETTINGS,
    );
    const job = actions.find((action) => action.kind === 'create' && action.resource === 'jobs');
    assert.ok(job?.kind === 'create');
    const { containers, volumes } = (
      job.object.spec as { template: { spec: { containers: { env: { name: string; value: string }[] }[]; volumes: object[] } } }
    ).template.spec;
    const setting = containers[0]?.env.find(({ name }) => name === 'DISKLIFT_SNAPSHOT_METADATA')?.value;
    return { setting: setting === undefined ? undefined : JSON.parse(setting), tokens: volumes.filter((volume) => 'projected' in volume) };
  }

  const snapshot = { name: 'disklift-u-1-0', handle: 'h-1', volume: 'vol-1' };

  it('is its address and authority, the names of the snapshot, and a token for its audience', () => {
    const { setting, tokens } = jobOf({ ...SERVICE, snapshot });
    const tokenFile = '/var/run/secrets/disklift.dev/snapshot-metadata/token';
    assert.deepEqual(setting, { driver: 'csi.example', address: 'metadata.storage:6443', caCert: 'UEVN', ...snapshot, tokenFile });
    const serviceAccountToken = { audience: 'metadata', expirationSeconds: 3600, path: 'token' };
    assert.deepEqual(tokens, [{ name: 'metadata-token', projected: { sources: [{ serviceAccountToken }] } }]);
    assert.equal(jobOf({ ...SERVICE, snapshot }, {}).tokens.length, 1, 'a full image is of the listed data');
  });

  it('is why the service is missing, for an incremental image alone', () => {
    const none = { kind: 'none', message: 'no service' } as const;
    assert.deepEqual(jobOf(none), { setting: { problem: 'no service' }, tokens: [] });
    assert.deepEqual(jobOf(none, {}), { setting: undefined, tokens: [] });
    assert.match(jobOf(SERVICE).setting.problem, /no snapshot of it/);
  });
});

describe('the look for a SnapshotMetadata service', () => {
  const content = { metadata: { name: 'content-1' }, spec: { driver: 'csi.example' }, status: { snapshotHandle: 'h-1' } };
  const spec = { address: 'metadata.storage:6443', audience: 'metadata', caCert: 'UEVN' };

  function looksWith(service: () => Promise<unknown>, found: object = content) {
    let calls = 0;
    const snapshotMetadataServices = { get: () => service().finally(() => (calls += 1)) };
    const api = { snapshotMetadataServices, volumeSnapshotContents: { get: async () => found } } as unknown as FleetApi;
    const looks = createMetadataLooks(api, { monotonicMs: () => 0 });
    return { observe: looks.observe, calls: () => calls };
  }

  const volume = volumeOf({ ...CHOSEN, claim: BLOCK });

  it('finds it by the driver of the class, then of the snapshot, and asks once', async () => {
    const { observe, calls } = looksWith(async () => ({ spec }));
    assert.deepEqual(await observe(requestOf(TRACKED), volume, undefined), SERVICE);
    const found = await observe(requestOf(TRACKED), volume, snapshotOf(READY));
    assert.deepEqual(found, { ...SERVICE, snapshot: { name: 'disklift-u-1-0', handle: 'h-1' } });
    assert.equal(calls(), 1);
    const made = { ...content, spec: { ...content.spec, source: { volumeHandle: 'vol-1' } } };
    const ofVolume = await looksWith(async () => ({ spec }), made).observe(requestOf(TRACKED), volume, snapshotOf(READY));
    assert.deepEqual(ofVolume, { ...SERVICE, snapshot: { name: 'disklift-u-1-0', handle: 'h-1', volume: 'vol-1' } });
  });

  it('reports why the service is missing', async () => {
    const { observe } = looksWith(async () => undefined);
    const why = async (...of: Parameters<typeof observe>) => {
      const found = await observe(...of);
      return found?.kind === 'none' ? found.message : found;
    };
    assert.match(`${await why(requestOf(TRACKED), volume, undefined)}`, /no SnapshotMetadataService csi.example/);
    assert.match(`${await why(requestOf(TRACKED), volumeOf(CHOSEN), undefined)}`, /has a file system/);
    assert.match(`${await why(requestOf(TRACKED), volumeOf({ claim: BLOCK }), undefined)}`, /no snapshot whose CSI driver is known/);
    const large = looksWith(async () => ({ spec: { ...spec, caCert: 'A'.repeat(65_537) } }));
    const found = await large.observe(requestOf(TRACKED), volume, undefined);
    assert.ok(found?.kind === 'none' && /larger than 65536 bytes/.test(found.message));
    assert.equal(await observe(requestOf({ incremental: { tracker: '/t', changes: 'BlockHashes' } }), volume, undefined), undefined);
  });

  it('fails as the API server does', async () => {
    const { observe } = looksWith(() => Promise.reject(new DiskliftError('StoreUnavailable', 'no answer')));
    await assert.rejects(observe(requestOf(TRACKED), volume, undefined), /no answer/);
  });
});
