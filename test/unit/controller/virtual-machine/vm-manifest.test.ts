import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parse, parseAllDocuments } from 'yaml';
import { renderVmManifest } from '../../../../src/controller/virtual-machine/vm-manifest.ts';
import { onClaim, vmOf } from './vm-objects.ts';

const VM = vmOf({
  volumes: [onClaim('root'), { name: 'data', dataVolume: { name: 'db01-data' } }],
  domain: {
    devices: { interfaces: [{ name: 'default', macAddress: '02:00:00:00:00:10', masquerade: {} }] },
    firmware: { uuid: '5d307ca9-b3ef-428c-8861-06e72d69f223' },
  },
  spec: {
    instancetype: { kind: 'VirtualMachineClusterInstancetype', name: 'u1.small', revisionName: 'db01-u1.small-v1-1' },
    dataVolumeTemplates: [
      {
        metadata: { creationTimestamp: null, name: 'db01-data' },
        spec: { source: { blank: {} }, storage: { resources: { requests: { storage: '10Gi' } } } },
        status: {},
      },
    ],
  },
  status: { printableStatus: 'Running', created: true },
  metadata: {
    uid: 'u-1',
    resourceVersion: '42',
    generation: 3,
    creationTimestamp: '2026-11-01T00:00:00Z',
    managedFields: [{}],
    finalizers: ['kubevirt.io/virtualMachineControllerFinalize'],
    ownerReferences: [{}],
    labels: { team: 'storage', 'kubevirt.io/vm-pool-revision-name': 'p-1' },
    annotations: {
      'kubectl.kubernetes.io/last-applied-configuration': '{}',
      'kubevirt.io/latest-observed-api-version': 'v1',
      'kubevirt.io/storage-observed-api-version': 'v1',
      'kubemacpool.io/transaction-timestamp': '1',
      'example.com/answer': 'on',
    },
  },
});

const CLAIMS = ['db01-root', 'db01-data'].map((name) => ({
  metadata: {
    name,
    namespace: 'vms',
    uid: 'u-2',
    ownerReferences: [{}],
    finalizers: ['kubernetes.io/pvc-protection'],
    labels: { app: 'containerized-data-importer', 'app.kubernetes.io/managed-by': 'Helm', tier: 'gold' },
    annotations: {
      'pv.kubernetes.io/bind-completed': 'yes',
      'volume.kubernetes.io/selected-node': 'n1',
      'cdi.kubevirt.io/storage.condition.running': 'false',
      'cdi.kubevirt.io/storage.contentType': 'kubevirt',
    },
  },
  spec: {
    accessModes: ['ReadWriteMany'],
    resources: { requests: { storage: '10Gi' } },
    storageClassName: 'fast',
    volumeMode: 'Block',
    volumeName: 'pv-7',
    dataSource: { kind: 'VolumeImportSource', name: 'i' },
    dataSourceRef: { kind: 'VolumeImportSource', name: 'i' },
  },
  status: { phase: 'Bound', capacity: { storage: '11Gi' } },
}));

const documentsOf = (text: string) => parseAllDocuments(text, { version: '1.1' }).map((document) => document.toJS());

describe('renderVmManifest', () => {
  it('writes the claims in the order of their names, then the VM, without what a machine sets', () => {
    const metadata = { labels: { 'app.kubernetes.io/managed-by': 'Helm', tier: 'gold' } };
    const contentType = { 'cdi.kubevirt.io/storage.contentType': 'kubevirt' };
    const spec = {
      accessModes: ['ReadWriteMany'],
      resources: { requests: { storage: '11Gi' } },
      storageClassName: 'fast',
      volumeMode: 'Block',
    };
    const claim = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', spec };
    const text = renderVmManifest(VM, CLAIMS);
    const [data, root, vm, ...more] = documentsOf(text);
    assert.deepEqual(more, []);
    assert.deepEqual(data, {
      ...claim,
      metadata: { ...metadata, name: 'db01-data', annotations: { ...contentType, 'cdi.kubevirt.io/storage.populatedFor': 'db01-data' } },
    });
    assert.deepEqual(root, { ...claim, metadata: { ...metadata, name: 'db01-root', annotations: contentType } });
    assert.deepEqual(vm, {
      apiVersion: 'kubevirt.io/v1',
      kind: 'VirtualMachine',
      metadata: { name: 'db01', labels: { team: 'storage' }, annotations: { 'example.com/answer': 'on' } },
      spec: {
        runStrategy: 'Always',
        instancetype: { kind: 'VirtualMachineClusterInstancetype', name: 'u1.small' },
        dataVolumeTemplates: [
          { metadata: { name: 'db01-data' }, spec: { source: { blank: {} }, storage: { resources: { requests: { storage: '10Gi' } } } } },
        ],
        template: {
          metadata: {},
          spec: {
            domain: {
              devices: { interfaces: [{ name: 'default', macAddress: '02:00:00:00:00:10', masquerade: {} }] },
              firmware: { uuid: '5d307ca9-b3ef-428c-8861-06e72d69f223' },
            },
            volumes: [onClaim('root'), { name: 'data', dataVolume: { name: 'db01-data' } }],
          },
        },
      },
    });
    assert.match(text, /^# VirtualMachine db01 of namespace vms, .*\n# To restore: .*\n---\n/);
  });

  it('gives the same bytes for the same fields in another order, and changes none of its arguments', () => {
    const reversed = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(reversed);
      if (typeof value !== 'object' || value === null) return value;
      return Object.fromEntries(
        Object.entries(value)
          .toReversed()
          .map(([key, each]) => [key, reversed(each)]),
      );
    };
    const before = structuredClone([VM, CLAIMS]);
    const text = renderVmManifest(VM, CLAIMS);
    assert.equal(renderVmManifest(reversed(VM) as typeof VM, CLAIMS.toReversed().map(reversed) as typeof CLAIMS), text);
    assert.deepEqual([VM, CLAIMS], before);
  });

  it('requests the size of the claim for one that is not bound', () => {
    const [claim] = CLAIMS;
    assert.ok(claim);
    const [document] = documentsOf(renderVmManifest(VM, [{ ...claim, status: { phase: 'Pending' } } as never]));
    assert.equal(document.spec.resources.requests.storage, '10Gi');
  });

  it('quotes every text so that readers of YAML 1.1 and of YAML 1.2 read the same', () => {
    const awkward = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom(
        'on',
        'No',
        'y',
        '0777',
        '0o17',
        '1_000',
        '12:30:45',
        '.inf',
        '1e3',
        '~',
        '=',
        '<<',
        '2026-11-30',
        '---',
        '# no',
        ' a ',
        'a\nb\n',
      ),
    );
    fc.assert(
      fc.property(awkward, (text) => {
        const rendered = renderVmManifest({ metadata: { name: 'db01', annotations: { text } } }, []);
        for (const version of ['1.1', '1.2'] as const) assert.equal(parse(rendered, { version }).metadata.annotations.text, text, version);
      }),
    );
  });
});
