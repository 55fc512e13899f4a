import assert from 'node:assert/strict';
import { DISK_FORMATS, type DiskFormat, FORMATS, unreadableByName } from '../../../src/formats/formats.ts';
import type { DiskExport } from '../../../src/resource/disk-export.ts';
import { validateDiskExport } from '../../../src/resource/validate.ts';

function requestOf(format: string): unknown {
  return {
    apiVersion: 'disklift.dev/v1alpha1',
    kind: 'DiskExport',
    metadata: { name: 'a', namespace: 'a' },
    spec: {
      source: { persistentVolumeClaim: { claimName: 'a' }, disks: [{ path: 'a', format }] },
      destination: { http: { url: 'https://a.example/a' } },
    },
  };
}

type RequestFormat = NonNullable<NonNullable<DiskExport['spec']['source']['disks']>[number]['format']>;

/** The compiler finds a format that no request can state. */
const IN_REQUESTS = {
  raw: 'Raw',
  qcow2: 'QCOW2',
  vmdk: 'VMDK',
  vhdx: 'VHDX',
  vdi: 'VDI',
  vpc: 'VPC',
} satisfies Record<DiskFormat, RequestFormat>;

describe('the table of formats', () => {
  it('has the formats that a request may state, and no others', () => {
    for (const name of DISK_FORMATS) {
      assert.equal(IN_REQUESTS[name].toLowerCase(), name);
      validateDiskExport(requestOf(IN_REQUESTS[name]));
    }
    assert.throws(() => validateDiskExport(requestOf('QED')), { code: 'InvalidRequest' });
    const stated: Exclude<RequestFormat, 'Auto'> extends (typeof IN_REQUESTS)[DiskFormat] ? true : false = true;
    assert.ok(stated);
  });

  it('has no extension twice', () => {
    const extensions = DISK_FORMATS.flatMap((name) => FORMATS[name].extensions);
    assert.equal(new Set(extensions).size, extensions.length);
    for (const extension of extensions) {
      assert.match(extension, /^\.[a-z0-9]+$/);
      assert.equal(unreadableByName(extension), undefined, extension);
    }
  });
});
