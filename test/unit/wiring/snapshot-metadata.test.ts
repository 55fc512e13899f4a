import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { systemClock } from '../../../src/common/clock.ts';
import { DiskliftError } from '../../../src/common/errors.ts';
import { createDestinationPolicy, createNetworkAccess } from '../../../src/network/destination-policy.ts';
import type { BaseImage } from '../../../src/receipts/contract.ts';
import type { TrackedSource } from '../../../src/sources/changed/contract.ts';
import { snapshotChanges } from '../../../src/wiring/snapshot-changes.ts';
import { openTracked, parseWorkerMetadata, type WorkerMetadata } from '../../../src/wiring/snapshot-metadata.ts';
import { failsWith } from '../../helpers/failure.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { createMemoryDisk } from '../../helpers/memory-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { requestOf } from '../controller/observed-facts.ts';

const SERVICE = { driver: 'csi.example', handle: 'h-2', name: 'today', address: '127.0.0.1:1', tokenFile: '/none', caCert: 'UEVN' };

describe('the setting for the SnapshotMetadata service', () => {
  it('has the snapshot and the service, or why there is neither', () => {
    assert.equal(parseWorkerMetadata(''), undefined);
    assert.deepEqual(parseWorkerMetadata('{"problem":"no service"}'), { kind: 'none', problem: 'no service' });
    assert.deepEqual(parseWorkerMetadata(JSON.stringify(SERVICE)), {
      kind: 'service',
      snapshot: {
        ...{ driver: 'csi.example', handle: 'h-2', name: 'today' },
        service: { address: '127.0.0.1:1', tokenFile: '/none', caCert: 'PEM' },
      },
    });
  });

  it('is refused when it is incomplete or no JSON', () => {
    for (const text of ['{', '[]', '{}', JSON.stringify({ ...SERVICE, handle: 1 })])
      assert.throws(() => parseWorkerMetadata(text), failsWith('InvalidRequest', /snapshotMetadata: has no text/));
  });
});

describe('changes of a worker whose volume is a clone', () => {
  const temp = useTempDir();
  const base = (points: BaseImage['points']) => ({ location: 's3://vms/a.qcow2', points }) as BaseImage;

  function changes(metadata: WorkerMetadata | undefined, spec: object) {
    const worker = { state: 'PointInTime', claimOf: new Map(), metadata } as const;
    const access = createNetworkAccess();
    return snapshotChanges(requestOf(spec), { worker, access, clock: systemClock, context: { warn: () => {} } as never });
  }

  const service = parseWorkerMetadata(JSON.stringify(SERVICE)) as WorkerMetadata;
  const none: WorkerMetadata = { kind: 'none', problem: 'no such service' };
  const tracked = (changesFrom: string) => ({ incremental: { tracker: '/t', changes: changesFrom } });

  function openedDisk() {
    const disk = createMemoryDisk(Buffer.alloc(4096), [{ offset: 0, length: 4096, kind: 'zeros' }]).source;
    let isOpen = false;
    const open = async (): Promise<TrackedSource> => {
      isOpen = true;
      const dispose = async () => {
        isOpen = false;
      };
      return { ...disk, dispose };
    };
    return { open, isOpen: () => isOpen };
  }

  it('come from the service with Auto, and not with BlockHashes', () => {
    assert.equal(changes(service, tracked('Auto'))?.from, 'SnapshotMetadata');
    assert.equal(changes(service, tracked('BlockHashes')), undefined);
    assert.equal(changes(none, tracked('Auto')), undefined);
    assert.equal(changes(undefined, tracked('SnapshotMetadata')), undefined);
  });

  it('are missing without the service, with its problem, and without a kept snapshot of the same driver', async () => {
    const open = (of: WorkerMetadata, points: BaseImage['points']) =>
      changes(of, tracked('SnapshotMetadata'))?.open({ ...openedDisk(), base: base(points) } as never, NEVER) ?? assert.fail();
    const older = { driver: 'csi.example', handle: 'h-1', name: 'yesterday' };
    await assert.rejects(open(none, { snapshot: older }), failsWith('ChangesMissing', /no such service/));
    await assert.rejects(open(service, {}), failsWith('ChangesMissing', /not made from a snapshot that was kept/));
    await assert.rejects(open(service, { snapshot: { ...older, driver: 'other' } }), failsWith('ChangesMissing', /of the driver other/));
    const ofVolume = (volume: string) => parseWorkerMetadata(JSON.stringify({ ...SERVICE, volume })) as WorkerMetadata;
    for (const volume of ['vol-1', undefined])
      await assert.rejects(
        open(ofVolume('vol-2'), { snapshot: { ...older, volume } }),
        failsWith('ChangesMissing', /of the volume (vol-1|\(unknown\)), and this one of vol-2/),
      );
    await assert.rejects(open(ofVolume('vol-1'), { snapshot: { ...older, volume: 'vol-1' } }), failsWith('CredentialsInvalid', /token/));
  });

  it('close the disk when the list cannot be had, and obey the policy of the network', async () => {
    writeFileSync(temp('token'), 'token');
    const { open, isOpen } = openedDisk();
    assert.ok(service.kind === 'service');
    const snapshot = { ...service.snapshot, service: { ...service.snapshot.service, tokenFile: temp('token') } };
    const access = createNetworkAccess(createDestinationPolicy({ allow: [], deny: [] }));
    const environment = { namespace: 'vms', snapshot, access, clock: systemClock, warn: assert.fail };
    await assert.rejects(
      openTracked(open, 'h-1', environment, NEVER),
      (error) => error instanceof DiskliftError && error.code === 'DestinationNotAllowed',
    );
    assert.equal(isOpen(), false);
  });
});
