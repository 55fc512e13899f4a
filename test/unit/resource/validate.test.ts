import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import type { DiskExport } from '../../../src/resource/disk-export.ts';
import { unreadableStatus, validateDiskExport, validateStatus, validateUpdate } from '../../../src/resource/validate.ts';
import { changed, REQUESTS, UPDATES } from '../../fixtures/request-table.ts';

/** Asserts that `judge` refuses, in one line that begins with the field. */
function assertRefused(judge: () => unknown, field: string, words = ''): void {
  assert.throws(judge, ({ code, message }) => {
    assert.equal(code, 'InvalidRequest');
    assert.ok(message.startsWith(`${field}: `) || message.startsWith(`${field}.`), `"${message}" names ${field}`);
    assert.ok(message.includes(words), message);
    assert.ok(!message.includes('\n') && message.length < 300, `"${message}" is one line`);
    return true;
  });
}

describe('validateDiskExport', () => {
  for (const { sentence, change, refused, words = '' } of REQUESTS)
    it(`${refused === undefined ? 'accepts' : 'refuses'} ${sentence}`, () => {
      const request = changed(change);
      const before = structuredClone(request);
      if (refused === undefined) assert.equal(validateDiskExport(request).kind, 'DiskExport');
      else assertRefused(() => validateDiskExport(request), refused, words);
      assert.deepEqual(request, before, 'what was given stays as it is');
    });

  it('fills in what the manifest leaves out', () => {
    const { metadata, spec, status } = validateDiskExport({ ...changed({}), status: { phase: 'Succeeded' } });
    assert.deepEqual(spec, {
      source: { persistentVolumeClaim: { claimName: 'fedora-root' }, inUse: 'Wait', verify: 'Auto' },
      image: { clusterSize: '64Ki', version: 3, refcountBits: 16, zeroDetection: 'Content' },
      destination: {
        http: {
          url: 'https://images.example/{namespace}/{name}/{disk}.qcow2',
          method: 'PUT',
          ifNoneMatch: false,
          createCollections: false,
        },
      },
      checksum: 'SHA256',
      backoffLimit: 8,
      cancel: false,
    });
    assert.equal(metadata.namespace, 'default');
    assert.equal(status, undefined, 'a status that comes with a request is not believed');
  });

  it('gives a request without a UID the same one each time, and another one to another request', () => {
    const uidOf = (change = {}) => validateDiskExport(changed(change)).metadata.uid;
    assert.match(uidOf(), /^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(uidOf(), uidOf({ 'metadata.namespace': 'default' }));
    assert.notEqual(uidOf(), uidOf({ 'metadata.namespace': 'vms' }));
    assert.equal(uidOf({ 'metadata.uid': 'its-own' }), 'its-own');
  });

  it('accepts what kubectl get -o yaml adds to the metadata, and nothing else', () => {
    const metadata = { name: 'a', resourceVersion: '7', creationTimestamp: '2026-01-01T00:00:00Z', managedFields: [{}], generation: 3 };
    assert.equal(validateDiskExport(changed({ metadata })).metadata.generation, 3);
    assertRefused(() => validateDiskExport(changed({ 'metadata.lables': {} })), 'metadata.lables');
    assertRefused(() => validateDiskExport(changed({ 'metadata.labels': { a: 1 } })), 'metadata.labels');
    assertRefused(() => validateDiskExport(changed({ 'metadata.name': undefined })), 'metadata.name');
    assertRefused(() => validateDiskExport(changed({ 'metadata.namespace': 'a.b' })), 'metadata.namespace');
  });

  for (const [what, value, field] of [
    ['nothing', undefined, 'the request'],
    ['a list', [], 'the request'],
    ['another kind', changed({ kind: 'Job' }), 'kind'],
    ['another version', changed({ apiVersion: 'disklift.dev/v2' }), 'apiVersion'],
    ['fields beside the spec', changed({ sepc: {} }), 'sepc'],
    ['a name that every object has', changed({ 'spec.constructor': {} }), 'spec.constructor'],
  ] as const)
    it(`refuses ${what}`, () => assertRefused(() => validateDiskExport(value), field));
});

describe('validateUpdate', () => {
  for (const { sentence, before = {}, change, refused } of UPDATES)
    it(`${refused === undefined ? 'lets change' : 'refuses to change'} ${sentence}`, () => {
      const [old, updated] = [changed(before), changed({ ...before, ...change })].map(validateDiskExport) as [DiskExport, DiskExport];
      if (refused === undefined) validateUpdate(old, updated);
      else assertRefused(() => validateUpdate(old, updated), refused);
    });
});

describe('validateStatus', () => {
  it('accepts the status that the API server gives to a new object', () => {
    const crd = parse(readFileSync('manifests/crd.yaml', 'utf8'));
    const initial = crd.spec.versions[0].schema.openAPIV3Schema.properties.status.default;
    assert.deepEqual(validateStatus(initial), initial);
  });

  it('refuses what no writer of a status wrote', () => {
    assertRefused(() => validateStatus({ attempts: 'many' }), 'status.attempts');
    assertRefused(() => validateStatus({ disks: [{ path: 'a', upload: { id: 'x' } }] }), 'status.disks[0].upload');
  });
});

describe('unreadableStatus', () => {
  it('bears the fields and words of other versions', () => {
    assert.equal(unreadableStatus({ phase: 'Dreaming', dreams: 3, disks: [{ path: 'a', colour: 'red' }], startTime: null }), undefined);
  });

  it('names what nobody could read', () => {
    assert.equal(unreadableStatus('text'), 'status: must be object');
    assert.equal(unreadableStatus({ disks: [null] }), 'status.disks[0]: must be object');
    assert.equal(unreadableStatus({ completionTime: 'then' }), 'status.completionTime: must be a time');
  });
});
