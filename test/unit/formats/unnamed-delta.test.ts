import assert from 'node:assert/strict';
import { isBackupLayout } from '../../../src/formats/qcow2/unnamed-delta.ts';

describe("KubeVirt's backup layout", () => {
  for (const path of [
    'db01/nightly-20261129-020000/nightly-rootdisk.qcow2',
    'nightly-2026-11-29T02:00:00Z/nightly-rootdisk.qcow2',
    'vms/db01/my-backup-1764381600/my-backup-data.QCOW2',
  ])
    it(`is ${path}`, () => assert.equal(isBackupLayout(path), true));

  for (const path of [
    'disk.qcow2',
    'nightly-rootdisk.qcow2',
    'web-1/web-root.qcow2',
    'db01/nightly-20261129-020000/weekly-rootdisk.qcow2',
    'db01/nightly-20261129-020000/nightly-rootdisk.img',
    '-20261129/-rootdisk.qcow2',
  ])
    it(`is not ${path}`, () => assert.equal(isBackupLayout(path), false));
});
