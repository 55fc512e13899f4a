import assert from 'node:assert/strict';
import { destinationPlace } from '../../../src/resource/destination-kinds.ts';
import { diskKey, diskUrl } from '../../../src/resource/disk-place.ts';
import { requireDistinct } from '../../../src/resource/placeholders.ts';
import { validateDiskExport } from '../../../src/resource/validate.ts';
import { type Change, changed } from '../../fixtures/request-table.ts';

const requestOf = (change: Change = {}) => validateDiskExport(changed({ 'metadata.namespace': 'vms', ...change }));
const MACHINE = { 'spec.source': { virtualMachine: { name: 'fedora' } } };

describe('the place of vm.yaml', () => {
  for (const [key, place] of [
    ['{namespace}/{vm}/{disk}.qcow2', 'vms/fedora/vm.yaml'],
    ['{vm}/{claim}/{disk}', 'fedora/vm/vm.yaml'],
    ['{vm}-{disk}.qcow2', 'vm.yaml'],
    ['a/b/', 'a/b/vm.yaml'],
  ] as const)
    it(`is the key ${key} with another last part`, () => {
      assert.equal(diskKey(key, requestOf(MACHINE), 'vm.yaml'), place);
    });

  for (const [url, place] of [
    ['https://h:1/{vm}/{disk}.qcow2?a=b/c', 'https://h:1/fedora/vm.yaml?a=b/c'],
    ['https://h', 'https://h/vm.yaml'],
    ['https://h?a=b', 'https://h/vm.yaml?a=b'],
    ['HTTP://h/{disk}', 'http://h/vm.yaml'],
  ] as const)
    it(`is the URL ${url} with another last part of its path`, () => {
      assert.equal(diskUrl(url, requestOf(MACHINE), 'vm.yaml'), place);
    });

  it('is an ordinary place for a disk of that name on a claim', () => {
    assert.equal(diskKey('{claim}/{disk}.qcow2', requestOf(), 'vm.yaml'), 'fedora-root/vm.qcow2');
    assert.equal(diskUrl('https://h/{disk}.qcow2', requestOf(), 'vm.yaml'), 'https://h/vm.qcow2');
  });

  it('is another place than those of the disks, or the request is refused', () => {
    const places = (key: string) => {
      const request = requestOf({ ...MACHINE, 'spec.destination': { s3: { bucket: 'images', key } } });
      return ['root', 'vm.yaml'].map((disk) => ({ disk, destination: destinationPlace(request, disk) }));
    };
    assert.deepEqual(
      places('{vm}/{disk}').map(({ destination }) => destination),
      ['s3://images/fedora/root', 's3://images/fedora/vm.yaml'],
    );
    requireDistinct(places('{vm}/{disk}'));
    assert.throws(() => requireDistinct(places('{vm}/vm.yaml')), { code: 'InvalidRequest', message: /"root" and "vm\.yaml" would go to/ });
  });
});
