/** The plan of a process that the controller has started, and what a sidecar refuses. */

import assert from 'node:assert/strict';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { createLimiter } from '../../../src/common/limiter.ts';
import type { Config } from '../../../src/config/load-config.ts';
import type { ExportPlan } from '../../../src/engine/contract.ts';
import type { DiskExport } from '../../../src/resource/disk-export.ts';
import { validateDiskExport } from '../../../src/resource/validate.ts';
import type { WriterSearch } from '../../../src/stores/kubernetes/store/pod-writers.ts';
import { composePlan, type ExportEnvironment } from '../../../src/wiring/export.ts';
import { refusalOf } from '../../../src/wiring/sources.ts';
import { type WorkerRole, workerRole } from '../../../src/wiring/worker.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { diskExport } from '../../helpers/manifest.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const S3 = { s3: { bucket: 'backups', key: '{vm}/{disk}.qcow2' } };
const HTTP = { http: { url: 'https://images.example/{disk}' } };
const TCP = { tcp: { host: 'peer.example', port: 1 } };
const POINT_IN_TIME: WorkerRole = { state: 'PointInTime', claimOf: new Map() };

function requestOf(source: object, destination: object = HTTP, spec: object = {}): DiskExport {
  return validateDiskExport(diskExport('e', destination, { source, ...spec }));
}

const machine = (more: object = {}) => ({ virtualMachine: { name: 'fedora', ...more } });
const snapshot = { volumeSnapshot: { name: 'monday' } };
const pathsOf = ({ disks }: ExportPlan) => disks.map(({ path }) => path);

describe('a worker of the controller', () => {
  const temp = useTempDir();
  let warnings: string[];

  beforeEach(async () => {
    warnings = [];
    for (const name of ['0', '1']) {
      await mkdir(temp(name));
      await createDisk(temp(`${name}/disk.img`), 65_536);
    }
    await mkdir(temp('vm'));
    await writeFile(temp('vm/data'), 'kind: VirtualMachine\n');
    await symlink('data', temp('vm/vm.yaml'));
  });

  function environmentOf(
    worker: WorkerRole | undefined,
    names = ['root', 'data'],
    more: Partial<ExportEnvironment> = {},
  ): ExportEnvironment {
    const volumes = new Map(names.map((name, index) => [name, temp(String(index))]));
    const context = { libc: undefined, readLimit: createLimiter(1), warn: (message: string) => void warnings.push(message) };
    return { volumes, worker, context, ...more } as unknown as ExportEnvironment;
  }

  const withManifest = (): WorkerRole => ({ ...POINT_IN_TIME, manifestFile: temp('vm/vm.yaml') });

  it('plans the volumes of a virtual machine in the order of their flags, by their names, and vm.yaml last', async () => {
    const plan = await composePlan(requestOf(machine(), S3), environmentOf(withManifest(), ['root', 'data']));
    assert.deepEqual(pathsOf(plan), ['root', 'data', 'vm.yaml']);
    assert.deepEqual(
      plan.disks.map(({ layout }) => layout),
      [undefined, undefined, 'Verbatim'],
    );
    assert.deepEqual(pathsOf(await composePlan(requestOf(machine(), S3), environmentOf(withManifest(), ['data', 'root']))).slice(0, 2), [
      'data',
      'root',
    ]);
  });

  it('reads vm.yaml as it is, also through a link as in a mounted ConfigMap', async () => {
    const { disks } = await composePlan(requestOf(machine(), S3), environmentOf(withManifest()));
    const source = await (disks.at(-1) ?? assert.fail()).openSource(NEVER);
    const bytes = Buffer.alloc(source.sizeBytes);
    await source.read(bytes, 0, NEVER);
    await source.dispose();
    assert.equal(bytes.toString(), 'kind: VirtualMachine\n');
  });

  it('reports that the file of vm.yaml is missing when it opens it, and plans the disks', async () => {
    const worker = { ...POINT_IN_TIME, manifestFile: temp('vm/none') };
    const { disks } = await composePlan(requestOf(machine(), S3), environmentOf(worker));
    await assert.rejects((disks.at(-1) ?? assert.fail()).openSource(NEVER), { code: 'SourceNotFound' });
  });

  for (const [what, source, destination, isSent] of [
    ['to S3', machine(), S3, true],
    ['by PUT', machine(), HTTP, true],
    ['by POST', machine(), { http: { ...HTTP.http, method: 'POST' } }, false],
    ['to a URL of a Secret', machine(), { http: { urlSecretRef: { name: 'a', key: 'b' } } }, false],
    ['by TCP', machine(), TCP, false],
    ['where the request does not want it', machine({ manifest: false }), S3, false],
    ['for a claim', { persistentVolumeClaim: { claimName: 'root' } }, HTTP, false],
  ] as const)
    it(`${isSent ? 'sends' : 'does not send'} vm.yaml ${what}`, async () => {
      const paths = pathsOf(await composePlan(requestOf(source, destination), environmentOf(withManifest(), ['root'])));
      assert.equal(paths.includes('vm.yaml'), isSent, paths.join());
      assert.equal(paths.length, isSent ? 2 : 1);
    });

  it('names the disks of a volume that has several by the volume and the file', async () => {
    await createDisk(temp('0/b.raw'), 512);
    const { leftOut } = await composePlan(requestOf(machine(), S3), environmentOf(POINT_IN_TIME, ['root']));
    assert.deepEqual(leftOut, ['root: b.raw lies beside disk.img; name it in spec.source.disks of a request for its claim to export it']);
    await mkdir(temp('2'));
    for (const name of ['a.raw', 'b.raw']) await createDisk(temp(`2/${name}`), 512);
    const volumes = new Map([['root', temp('2')]]);
    const plan = await composePlan(requestOf(machine(), S3), environmentOf(POINT_IN_TIME, [], { volumes }));
    assert.deepEqual(pathsOf(plan), ['root/a.raw', 'root/b.raw']);
  });

  it('names the volume of a virtual machine that has no disk', async () => {
    await mkdir(temp('2'));
    const volumes = new Map([['swap', temp('2')]]);
    const planning = composePlan(requestOf(machine(), S3), environmentOf(POINT_IN_TIME, [], { volumes }));
    await assert.rejects(planning, { code: 'SourceNotFound', message: /^swap: .*no disk on the volume/ });
  });

  it('plans the disks of a snapshot by the name of the snapshot', async () => {
    assert.deepEqual(pathsOf(await composePlan(requestOf(snapshot), environmentOf(POINT_IN_TIME, ['monday']))), ['disk.img']);
    await assert.rejects(composePlan(requestOf(snapshot), environmentOf(POINT_IN_TIME, ['tuesday'])), {
      code: 'SourceNotFound',
      message: 'this worker has no clone of the VolumeSnapshot monday',
    });
  });

  async function openFirst(worker: WorkerRole, source: object, findWriter: (claim: string) => Promise<WriterSearch>): Promise<void> {
    const { disks } = await composePlan(requestOf(source), environmentOf(worker, ['root'], { findWriter }));
    const opened = await (disks[0] ?? assert.fail()).openSource(NEVER);
    await opened.dispose();
  }

  it('neither searches for writers nor needs locks where the volumes are clones', async () => {
    const findWriter = () => assert.fail('no pod is searched for');
    for (const source of [machine(), { persistentVolumeClaim: { claimName: 'root' } }]) await openFirst(POINT_IN_TIME, source, findWriter);
  });

  it("searches for writers to the claim of a virtual machine's volume where the volumes are the claims", async () => {
    const searched: string[] = [];
    const live: WorkerRole = { state: 'Live', claimOf: new Map([['root', 'fedora-root']]) };
    const find = (search: WriterSearch) => async (claim: string) => {
      searched.push(claim);
      return search;
    };
    await openFirst(live, machine(), find({ kind: 'none' }));
    await assert.rejects(openFirst(live, machine(), find({ kind: 'writer', who: 'virt-launcher' })), {
      code: 'SourceInUse',
      message: /^the claim fedora-root is in use by virt-launcher/,
    });
    assert.deepEqual(searched, ['fedora-root', 'fedora-root']);
    await assert.rejects(openFirst({ ...live, claimOf: new Map() }, machine(), find({ kind: 'none' })), {
      code: 'InUseUnknown',
      message: /the worker does not know the claim of root/,
    });
  });
});

describe('a sidecar that the controller has not started', () => {
  const volumes = new Map([
    ['claim', '/disks/claim'],
    ['monday', '/disks/monday'],
  ]);
  const claim = { persistentVolumeClaim: { claimName: 'claim' } };

  for (const [what, request, refusal] of [
    ['a snapshot', requestOf(snapshot), /^an export of the VolumeSnapshot monday needs `disklift controller`/],
    ['a virtual machine', requestOf(machine()), /^an export of the VirtualMachine fedora needs `disklift controller`/],
    ['snapshot.mode Auto', requestOf(claim, HTTP, { snapshot: {} }), /spec\.snapshot\.mode Auto needs `disklift controller`/],
    ['snapshot.mode Always', requestOf(claim, HTTP, { snapshot: { mode: 'Always' } }), /mode Always needs `disklift controller`/],
  ] as const)
    it(`refuses ${what}`, async () => {
      assert.match(refusalOf(request, { volumes }) ?? '', refusal);
      assert.equal(refusalOf(request, { volumes, worker: POINT_IN_TIME }), undefined);
      const environment = { volumes, context: { libc: undefined } } as unknown as ExportEnvironment;
      await assert.rejects(composePlan(request, environment), { code: 'SourceNotFound', message: refusal });
    });

  it('runs an export of its claim, also with snapshot.mode Never', () => {
    for (const spec of [{}, { snapshot: { mode: 'Never' } }]) assert.equal(refusalOf(requestOf(claim, HTTP, spec), { volumes }), undefined);
  });
});

describe('the role of a worker', () => {
  const config = (more: Partial<Config>) => ({
    ...{ worker: '', claimOf: [], manifestFile: '', snapshotMetadata: '', backupUid: '', once: 'e' },
    ...more,
  });

  it('comes from the settings', () => {
    assert.equal(workerRole(config({})), undefined);
    assert.equal(workerRole(config({ worker: 'Cleanup' })), undefined);
    assert.deepEqual(workerRole(config({ worker: 'PointInTime' })), { state: 'PointInTime', claimOf: new Map() });
    assert.deepEqual(workerRole(config({ worker: 'Live', claimOf: ['root=fedora-root'], manifestFile: '/vm.yaml' })), {
      state: 'Live',
      claimOf: new Map([['root', 'fedora-root']]),
      manifestFile: '/vm.yaml',
    });
    const { backupUid } = workerRole(config({ worker: 'PointInTime', backupUid: 'b-1' })) ?? {};
    assert.equal(backupUid, 'b-1');
  });

  it('needs the name of one export, and a claim for each volume that it names', () => {
    for (const worker of ['Live', 'PointInTime', 'Cleanup'])
      assert.throws(() => workerRole(config({ worker, once: '' })), { code: 'InvalidRequest', message: /--worker needs --once/ });
    for (const entry of ['root', 'root=', '=claim', 'a=b=c'])
      assert.throws(() => workerRole(config({ worker: 'Live', claimOf: [entry] })), { code: 'InvalidRequest', message: /VOLUME=CLAIM/ });
  });
});
