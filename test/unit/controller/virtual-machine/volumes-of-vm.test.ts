import assert from 'node:assert/strict';
import { volumesOfVm } from '../../../../src/controller/virtual-machine/volumes-of-vm.ts';
import { onClaim, vmOf } from './vm-objects.ts';

const EVERY_KIND = vmOf({
  volumes: [
    onClaim('root'),
    { name: 'data', dataVolume: { name: 'db01-data' } },
    { name: 'extra', persistentVolumeClaim: { claimName: 'db01-extra', hotpluggable: true } },
    { name: 'image', containerDisk: { image: 'quay.io/a/fedora:40' } },
    { name: 'overlay', ephemeral: { persistentVolumeClaim: { claimName: 'base' } } },
    { name: 'node-file', hostDisk: { path: '/var/disk.img', type: 'DiskOrCreate' } },
    { name: 'scratch', emptyDisk: { capacity: '2Gi' } },
    { name: 'dump', memoryDump: { claimName: 'dump' } },
    ...[
      'cloudInitNoCloud',
      'cloudInitConfigDrive',
      'configMap',
      'secret',
      'serviceAccount',
      'downwardAPI',
      'downwardMetrics',
      'sysprep',
    ].map((kind) => ({ name: kind.toLowerCase(), [kind]: {} })),
  ],
});

describe('volumesOfVm', () => {
  it('takes claims and DataVolumes, hot-plugged ones too, in the order of the VM', () => {
    const { volumes, unknown } = volumesOfVm(EVERY_KIND);
    assert.deepEqual(volumes, [
      { name: 'root', claimName: 'db01-root' },
      { name: 'data', claimName: 'db01-data' },
      { name: 'extra', claimName: 'db01-extra' },
    ]);
    assert.deepEqual(unknown, []);
  });

  it('lists each disk that is on no claim of its own with a reason, and no definitions', () => {
    const { leftOut } = volumesOfVm(EVERY_KIND);
    assert.deepEqual(
      leftOut.map(({ name }) => name),
      ['image', 'overlay', 'node-file', 'scratch', 'dump'],
    );
    const whyOf = (name: string) => leftOut.find((each) => each.name === name)?.why ?? '';
    assert.match(whyOf('image'), /container image quay\.io\/a\/fedora:40/);
    assert.match(whyOf('overlay'), /layer over the claim base/);
    assert.match(whyOf('node-file'), /\/var\/disk\.img of a node/);
  });

  it('takes only the selected volumes and leaves those out that are not selected, without a word', () => {
    assert.deepEqual(volumesOfVm(EVERY_KIND, ['data', 'root']), {
      volumes: [
        { name: 'root', claimName: 'db01-root' },
        { name: 'data', claimName: 'db01-data' },
      ],
      leftOut: [],
      unknown: [],
    });
  });

  it('reports a selected volume that cannot be exported, a selected definition, and a name that the VM does not have', () => {
    const { volumes, leftOut, unknown } = volumesOfVm(EVERY_KIND, ['root', 'scratch', 'cloudinitnocloud', 'rooot', 'rooot']);
    assert.deepEqual(volumes, [{ name: 'root', claimName: 'db01-root' }]);
    assert.deepEqual(
      leftOut.map(({ name }) => name),
      ['scratch', 'cloudinitnocloud'],
    );
    assert.deepEqual(unknown, ['rooot']);
  });

  it('takes the claims of CD-ROMs and LUNs, without which the VM would not start', () => {
    const vm = vmOf({
      volumes: [onClaim('iso'), onClaim('lun')],
      disks: [
        { name: 'iso', cdrom: { bus: 'sata' } },
        { name: 'lun', lun: { reservation: true } },
      ],
    });
    assert.deepEqual(
      volumesOfVm(vm).volumes.map(({ name }) => name),
      ['iso', 'lun'],
    );
  });

  it('leaves out a claim that the guest has as a file system, and lists no Secret that it has so', () => {
    const vm = vmOf({
      volumes: [onClaim('share'), { name: 'keys', secret: { secretName: 'keys' } }],
      filesystems: [
        { name: 'share', virtiofs: {} },
        { name: 'keys', virtiofs: {} },
      ],
    });
    const { volumes, leftOut } = volumesOfVm(vm);
    assert.deepEqual(volumes, []);
    assert.deepEqual(
      leftOut.map(({ name }) => name),
      ['share'],
    );
    assert.match(leftOut[0]?.why ?? '', /virtiofs/);
  });

  it('lists a volume that only the running instance has, because no definition would bring it back', () => {
    const vmi = { metadata: { name: 'db01' }, spec: { volumes: [onClaim('root'), onClaim('late'), { name: 'token', secret: {} }] } };
    const { volumes, leftOut } = volumesOfVm(vmOf({ volumes: [onClaim('root')] }), undefined, vmi);
    assert.deepEqual(
      volumes.map(({ name }) => name),
      ['root'],
    );
    assert.deepEqual(
      leftOut.map(({ name, why }) => [name, /hot-plugged to the running VM only/.test(why)]),
      [['late', true]],
    );
  });

  it('lists the claim that KubeVirt makes for a persistent TPM or for EFI variables', () => {
    const vm = vmOf({
      volumes: [onClaim('root')],
      domain: { devices: { tpm: { persistent: true } }, firmware: { bootloader: { efi: { persistent: true } } } },
    });
    assert.deepEqual(volumesOfVm(vm).leftOut, [
      { name: 'persistent-state-for-db01', why: 'holds the state of TPM and EFI variables, not a disk' },
    ]);
    assert.deepEqual(volumesOfVm(vm, ['root']).leftOut, []);
    assert.deepEqual(volumesOfVm(vmOf({ domain: { devices: { tpm: {} } } })).leftOut, []);
  });

  it('lists a kind of volume that it does not know, and survives a VM without volumes', () => {
    assert.deepEqual(volumesOfVm(vmOf({ volumes: [{ name: 'new', holographic: {} }] })).leftOut, [
      { name: 'new', why: 'is a holographic, which disklift does not support' },
    ]);
    assert.deepEqual(volumesOfVm({ metadata: { name: 'db01' } }, ['root']), { volumes: [], leftOut: [], unknown: ['root'] });
  });
});
