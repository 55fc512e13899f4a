import assert from 'node:assert/strict';
import { createManifestResolver, type Manifest, readManifests, withoutManifest } from '../../../../src/stores/directory/read-manifests.ts';

function read(text: string, notes: string[] = []): Manifest[] {
  return readManifests(text, { fileName: 'a.yaml', warn: (message) => notes.push(message) });
}

function summary(manifests: readonly Manifest[]): string[] {
  return manifests.map(({ kind, namespace, name, place }) => `${kind} ${namespace}/${name} at ${place}`);
}

const THREE = `# of the backup team
kind: DiskExport
metadata: {name: a}
---
kind: Secret
metadata: {name: s, namespace: vms}
---
---
# the last
kind: DiskExport
metadata:
  name: b # two
`;

describe('readManifests', () => {
  it('reads every document of a file and every item of a List', () => {
    assert.deepEqual(summary(read(THREE)), ['DiskExport default/a at 0', 'Secret vms/s at 1', 'DiskExport default/b at 3']);
    const list = {
      kind: 'List',
      items: [{ kind: 'DiskExportList', items: [{ kind: 'DiskExport', metadata: { name: 'x' } }] }, { kind: 'ConfigMap' }],
    };
    assert.deepEqual(summary(read(JSON.stringify(list))), ['DiskExport default/x at 0,0,0', 'ConfigMap default/ at 0,1']);
    assert.deepEqual(read('# nothing\n'), []);
  });

  it('says what it ignores', () => {
    const notes: string[] = [];
    assert.deepEqual(read('kind: Pod\n---\njust text\n---\n[1]\n', notes), []);
    assert.equal(notes.length, 3);
    assert.ok(notes.every((note) => note.startsWith('a.yaml: ')));
  });

  it('names the line of what is no YAML, and nothing of what is in it', () => {
    for (const text of [
      'a: b\nc: [s3cret\n',
      'a: "s3cret\n',
      'a: s3cret\n a: s3cret',
      'a: *s3cret',
      's3cret: 1\ns3cret: 2',
      'k: !!float s3cret: x: y',
    ])
      assert.throws(
        () => read(text),
        ({ code, message }) =>
          code === 'InvalidRequest' && message.startsWith('a.yaml: ') && !message.includes('s3cret') && !message.includes('\n'),
        text,
      );
  });

  it('is not blown up by aliases', () => {
    const levels = Array.from(
      { length: 12 },
      (_, level) => `a${level}: &a${level} [${Array(9).fill(level === 0 ? 'x' : `*a${level - 1}`)}]`,
    );
    assert.throws(() => read(levels.join('\n')), { code: 'InvalidRequest' });
  });

  it('reads anchors and merges as kubectl does', () => {
    const [manifest] = read('kind: DiskExport\nx: &x {a: 1}\ny: {<<: *x, b: yes}\n');
    assert.deepEqual(manifest?.value.y, { a: 1, b: 'yes' });
  });
});

describe('withoutManifest', () => {
  it('leaves the other documents with their comments', () => {
    const rest = withoutManifest(THREE, [0]) ?? '';
    assert.deepEqual(summary(read(rest)), ['Secret vms/s at 0', 'DiskExport default/b at 1']);
    assert.match(rest, /# the last\n.*\n.*\n {2}name: b # two/);
    assert.deepEqual(summary(read(withoutManifest(THREE, [3]) ?? '')), ['DiskExport default/a at 0', 'Secret vms/s at 1']);
  });

  it('takes an item out of a List, and leaves JSON what it is', () => {
    const item = (name: string) => ({ kind: 'DiskExport', metadata: { name } });
    const text = JSON.stringify({ kind: 'List', items: [item('a'), item('b')] });
    const rest = withoutManifest(text, [0, 0]) ?? '';
    assert.deepEqual(JSON.parse(rest), { kind: 'List', items: [item('b')] });
    assert.equal(withoutManifest(rest, [0, 0]), undefined);
  });

  it('leaves nothing of the only document', () => {
    assert.equal(withoutManifest('# a\nkind: DiskExport\n', [0]), undefined);
  });
});

describe('createManifestResolver', () => {
  const SECRET = {
    kind: 'Secret',
    metadata: { name: 's', labels: { a: 'b' } },
    data: { token: 'czNjcmV0', both: 'b2xk' },
    stringData: { both: 'new' },
  };

  function resolve(value: object, kind: 'Secret' | 'ConfigMap' = 'Secret') {
    return createManifestResolver(read(JSON.stringify(value)))({ kind, namespace: 'default', name: 's' });
  }

  it('decodes a Secret', async () => {
    const data = { token: Buffer.from('s3cret'), both: Buffer.from('new') };
    assert.deepEqual(await resolve(SECRET), { labels: { a: 'b' }, annotations: {}, data });
    assert.equal(await resolve(SECRET, 'ConfigMap'), undefined);
    assert.equal(await resolve({ ...SECRET, metadata: { name: 's', namespace: 'vms' } }), undefined);
  });

  it('decodes a ConfigMap', async () => {
    const found = await resolve(
      { kind: 'ConfigMap', metadata: { name: 's' }, data: { a: 'text' }, binaryData: { b: 'AAE=' } },
      'ConfigMap',
    );
    assert.deepEqual(found?.data, { a: Buffer.from('text'), b: Buffer.from([0, 1]) });
  });

  it('refuses what is no text, and tells nothing of it', async () => {
    for (const data of [{ token: 's3cret!' }, { token: 12345 }, { token: 'czNjcmV0=' }])
      await assert.rejects(resolve({ ...SECRET, data }), ({ code, message }) => {
        assert.equal(code, 'CredentialsInvalid');
        assert.match(message, /Secret default\/s: its entry token/);
        assert.doesNotMatch(message, /s3cret|12345|czNj/);
        return true;
      });
  });
});
