import assert from 'node:assert/strict';
import { createStoredRequests } from '../../../src/controller/stored-requests.ts';
import type { ExportObject } from '../../../src/stores/kubernetes/client/objects.ts';

function objectOf(name: string, url = 'https://images.example/{disk}'): ExportObject {
  return {
    metadata: { namespace: 'vms', name, uid: `u-${name}`, resourceVersion: '1' },
    spec: { source: { persistentVolumeClaim: { claimName: 'claim' } }, destination: { http: { url } } },
  };
}

describe('the validated requests of exports', () => {
  it('validates one version of an object once', () => {
    const requests = createStoredRequests();
    const object = objectOf('a');
    const first = requests.of('vms/a', object);
    assert.equal(first?.kind, 'request');
    assert.equal(requests.of('vms/a', object), first);
  });

  it('validates another version anew', () => {
    const requests = createStoredRequests();
    requests.of('vms/a', objectOf('a'));
    assert.equal(requests.of('vms/a', objectOf('a', 'no URL'))?.kind, 'invalid');
  });

  it('keeps the 256 that were used last', () => {
    const requests = createStoredRequests();
    const objects = Array.from({ length: 257 }, (_, index) => objectOf(`e-${index}`));
    const first = objects.map((object) => requests.of(`vms/${object.metadata.name}`, object));
    const again = (index: number) => requests.of(`vms/e-${index}`, objects[index] as ExportObject);
    assert.equal(again(1), first[1]);
    assert.notEqual(again(0), first[0]);
    assert.equal(again(1), first[1]);
    assert.notEqual(again(2), first[2]);
  });
});
