/**
 * Lists of the real csi-snapshot-metadata, in front of a CSI driver that compares the files of its snapshots. The API
 * server judges tokens, audiences and rights, as in a cluster.
 */

// Runs alone: a dozen programs, and deadlines of the test's own.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { open, readFile, truncate } from 'node:fs/promises';
import { systemClock } from '../../src/common/clock.ts';
import { listRanges } from '../../src/sources/changed/snapshot-metadata/list-ranges.ts';
import { failsWith } from '../helpers/failure.ts';
import { NEVER } from '../helpers/image-in-process.ts';
import { until } from '../helpers/until.ts';
import { requireBinaries } from './kubernetes-binaries.ts';
import { AUDIENCE, METADATA_PROGRAM, type MetadataServiceOfTest, startMetadataService } from './metadata-service.ts';
import { SNAPSHOT_CLASSES } from './node/storage.ts';
import { useFleet } from './use-fleet.ts';

const KIB = 1024;
const SIZE_BYTES = 32 * 1024 * KIB;
const BLOCK_BYTES = 64 * KIB;

describe('the SnapshotMetadata service of a CSI driver', function () {
  this.timeout(180_000);
  const fleet = useFleet();
  let metadata: MetadataServiceOfTest;

  before(async function () {
    requireBinaries(this, METADATA_PROGRAM);
  });

  beforeEach(async () => {
    metadata = await startMetadataService(fleet.api, fleet.storage);
    await metadata.announce(true);
  });

  afterEach(async function () {
    if (this.currentTest?.state === 'failed') console.error(metadata.log().slice(-3000));
    await metadata[Symbol.asyncDispose]();
  });

  const within = (group: string, plural: string) => `${group}/namespaces/${fleet.namespace.name}/${plural}`;

  async function post(place: string, body: object): Promise<{ status: { token: string } }> {
    const answer = await fleet.api.request(place, { method: 'POST', body });
    assert.equal(answer.status, 201, JSON.stringify(answer.body));
    return answer.body;
  }

  /** An account that may read snapshots, or not. @returns the file of its token */
  async function account(name: string, { audience = AUDIENCE, mayRead = true } = {}): Promise<string> {
    await post(within('/api/v1', 'serviceaccounts'), { metadata: { name } });
    const rules = [{ apiGroups: ['snapshot.storage.k8s.io'], resources: ['volumesnapshots'], verbs: [mayRead ? 'get' : 'list'] }];
    await post(within('/apis/rbac.authorization.k8s.io/v1', 'roles'), { metadata: { name }, rules });
    await post(within('/apis/rbac.authorization.k8s.io/v1', 'rolebindings'), {
      metadata: { name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
      subjects: [{ kind: 'ServiceAccount', name, namespace: fleet.namespace.name }],
    });
    const { status } = await post(within('/api/v1', `serviceaccounts/${name}/token`), { spec: { audiences: [audience] } });
    writeFileSync(fleet.temp(name), status.token);
    return fleet.temp(name);
  }

  /** @returns the name of the snapshot at the driver */
  async function snapshot(name: string, className?: string): Promise<string> {
    await fleet.scenes.snapshot(name, 'root', className);
    const { body } = await fleet.api.request(within('/apis/snapshot.storage.k8s.io/v1', `volumesnapshots/${name}`));
    const content = await fleet.api.request(
      `/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents/${body.status.boundVolumeSnapshotContentName}`,
    );
    return content.body.status.snapshotHandle;
  }

  function question(name: string, tokenFile: string, baseHandle?: string) {
    const { address, ca: caCert } = metadata;
    const service = { address, caCert, tokenFile, locate: async (host: string) => host };
    const named = { namespace: fleet.namespace.name, name };
    return { service, snapshot: named, baseHandle, clock: systemClock, random: Math.random, signal: NEVER };
  }

  async function ranges(...of: Parameters<typeof question>): Promise<[number, number][]> {
    const { capacityBytes, count, starts, ends } = await listRanges(question(...of));
    assert.equal(capacityBytes, SIZE_BYTES);
    return Array.from({ length: count }, (_, index) => [starts[index] as number, ends[index] as number]);
  }

  async function blockClaim(): Promise<string> {
    const disk = await fleet.scenes.claim('root', { mode: 'Block' });
    await truncate(disk, SIZE_BYTES);
    return disk;
  }

  async function write(disk: string, ...offsets: number[]): Promise<void> {
    const file = await open(disk, 'r+');
    for (const offset of offsets) await file.write(Buffer.alloc(700, 0xb7), 0, 700, offset);
    await file.close();
  }

  /** The blocks in which two states of the disk differ, joined. */
  function differing(before: Buffer, after: Buffer): [number, number][] {
    const found: [number, number][] = [];
    for (let at = 0; at < SIZE_BYTES; at += BLOCK_BYTES) {
      if (before.subarray(at, at + BLOCK_BYTES).equals(after.subarray(at, at + BLOCK_BYTES))) continue;
      const last = found.at(-1);
      if (last !== undefined && last[1] === at) last[1] = at + BLOCK_BYTES;
      else found.push([at, at + BLOCK_BYTES]);
    }
    return found;
  }

  it('lists what has data and what has changed, in blocks of one length too, of many messages', async () => {
    const disk = await blockClaim();
    const tokenFile = await account('reader');
    const first = await snapshot('first');
    const before = await readFile(disk);
    assert.deepEqual(await ranges('first', tokenFile), differing(Buffer.alloc(SIZE_BYTES), before));
    await write(
      disk,
      0,
      2 * BLOCK_BYTES - 1,
      ...Array.from({ length: 60 }, (_, index) => (100 + 3 * index) * BLOCK_BYTES),
      SIZE_BYTES - 700,
    );
    await snapshot('second');
    const changed = differing(before, await readFile(disk));
    assert.ok(changed.length > 60);
    assert.deepEqual(await ranges('second', tokenFile, first), changed);
    await snapshot('fixed', SNAPSHOT_CLASSES.fixedBlocks);
    assert.deepEqual(await ranges('fixed', tokenFile, first), changed);
  });

  it('serves an account that may read the snapshot, with a token for its own audience alone', async () => {
    await blockClaim();
    await snapshot('first');
    const stranger = await account('stranger', { mayRead: false });
    await assert.rejects(ranges('first', stranger), failsWith('SourcePermissionDenied', /PERMISSION_DENIED/));
    const elsewhere = await account('elsewhere', { audience: 'another.example' });
    await assert.rejects(ranges('first', elsewhere), failsWith('CredentialsInvalid', /UNAUTHENTICATED: unauthenticated user/));
  });

  it('does not find a base that was deleted', async () => {
    await blockClaim();
    const tokenFile = await account('reader');
    const first = await snapshot('first');
    await snapshot('second');
    await fleet.api.request(within('/apis/snapshot.storage.k8s.io/v1', 'volumesnapshots/first'), { method: 'DELETE' });
    await until('the storage has deleted it', () => !fleet.storage.contents().includes(first));
    await assert.rejects(ranges('second', tokenFile, first), failsWith('ChangesMissing', /NOT_FOUND: no snapshot/));
  });

  it('passes on what a driver sends against the protocol, and disklift refuses it', async () => {
    const disk = await blockClaim();
    const tokenFile = await account('reader');
    const first = await snapshot('first');
    await write(disk, BLOCK_BYTES);
    await snapshot('beyond', SNAPSHOT_CLASSES.beyond);
    await snapshot('unordered', SNAPSHOT_CLASSES.unordered);
    await assert.rejects(ranges('beyond', tokenFile, first), failsWith('ChangesRefused', /and the volume at 33554432/));
    await assert.rejects(ranges('unordered', tokenFile, first), failsWith('ChangesRefused', /the range at offset 0 comes after/));
  });
});
