import assert from 'node:assert/strict';
import { type ClassFacts, chooseSnapshotClass } from '../../../src/controller/snapshot-class.ts';

const claimOf = (provisioner?: string): ClassFacts['claim'] => ({
  metadata: {
    name: 'root',
    namespace: 'vms',
    uid: '1',
    resourceVersion: '1',
    ...(provisioner && { annotations: { 'volume.kubernetes.io/storage-provisioner': provisioner } }),
  },
  spec: { storageClassName: 'fast' },
});

const storageClassOf = (provisioner: string) => ({ metadata: { name: 'fast', uid: '2', resourceVersion: '1' }, provisioner });

const classOf = (name: string, deletionPolicy = 'Delete', { driver = 'disks.example', isDefault = false } = {}) => ({
  metadata: {
    name,
    uid: name,
    resourceVersion: '1',
    ...(isDefault && { annotations: { 'snapshot.storage.kubernetes.io/is-default-class': 'true' } }),
  },
  driver,
  deletionPolicy,
});

interface Row {
  sentence: string;
  facts: Partial<ClassFacts>;
  /** The class, or the kind of the answer. */
  choice: string;
  words?: RegExp;
}

const ROWS: readonly Row[] = [
  {
    sentence: 'the only class of the driver',
    facts: { classes: [classOf('a'), classOf('b', 'Delete', { driver: 'other' })] },
    choice: 'a',
  },
  { sentence: 'the default of several', facts: { classes: [classOf('a'), classOf('b', 'Delete', { isDefault: true })] }, choice: 'b' },
  { sentence: 'the one that deletes of two without a default', facts: { classes: [classOf('a', 'Retain'), classOf('b')] }, choice: 'b' },
  { sentence: 'none of two that delete', facts: { classes: [classOf('a'), classOf('b')] }, choice: 'none', words: /\(a, b\).*className/ },
  {
    sentence: 'none without a class of the driver',
    facts: { classes: [] },
    choice: 'none',
    words: /driver disks\.example of the claim root/,
  },
  { sentence: 'none in a cluster without snapshots', facts: { classes: undefined }, choice: 'none', words: /CRDs are missing/ },
  {
    sentence: 'none for a claim without a driver',
    facts: { classes: [classOf('a')], storageClass: undefined },
    choice: 'none',
    words: /\(unknown\)/,
  },
  { sentence: 'no class that retains', facts: { classes: [classOf('a', 'Retain')] }, choice: 'refused', words: /deletionPolicy Retain/ },
  {
    sentence: 'no default that retains, although another one deletes',
    facts: { classes: [classOf('a', 'Retain', { isDefault: true }), classOf('b')] },
    choice: 'refused',
  },
  { sentence: 'a named class that retains', facts: { classes: [classOf('a', 'Retain')], className: 'a' }, choice: 'a' },
  {
    sentence: 'no named class that is missing',
    facts: { classes: [classOf('a')], className: 'b' },
    choice: 'refused',
    words: /is no .* b$/,
  },
  {
    sentence: 'no named class of another driver',
    facts: { classes: [classOf('a', 'Delete', { driver: 'other' })], className: 'a' },
    choice: 'refused',
    words: /driver other.*disks\.example/,
  },
  {
    sentence: 'the class of the driver that made the volume, and not of the storage class',
    facts: { claim: claimOf('old.example'), classes: [classOf('a'), classOf('b', 'Delete', { driver: 'old.example' })] },
    choice: 'b',
  },
];

describe('the VolumeSnapshotClass of a claim', () => {
  for (const { sentence, facts, choice, words } of ROWS)
    it(`is ${sentence}`, () => {
      const found = chooseSnapshotClass({
        claim: claimOf(),
        storageClass: storageClassOf('disks.example'),
        classes: [],
        className: undefined,
        ...facts,
      });
      assert.equal(found.kind === 'chosen' ? found.name : found.kind, choice, JSON.stringify(found));
      if (words !== undefined) assert.match('message' in found ? found.message : '', words);
      if (found.kind === 'refused') assert.match(found.reason, /^SnapshotClass(Retains|NotFound)$/);
    });
});
