import assert from 'node:assert/strict';
import fc from 'fast-check';
import { expandPlaceholders, expandUrl, placeholderValues, requireDistinct, SCHEDULED_TIME } from '../../../src/resource/placeholders.ts';
import { validateDiskExport } from '../../../src/resource/validate.ts';
import { changed } from '../../fixtures/request-table.ts';
import { SEED, SEED_TEXT } from '../../helpers/seed.ts';

const REQUEST = validateDiskExport(changed({ 'metadata.namespace': 'vms', 'metadata.uid': 'u-1' }));
const INVALID = { code: 'InvalidRequest' };

function valuesOf(diskPath: string) {
  return placeholderValues(REQUEST, diskPath);
}

describe('placeholders', () => {
  it('stand for the request and the disk', () => {
    const url = expandUrl('https://h:1/{namespace}/{name}/{uid}/{claim}/{disk}.qcow2?a=b', valuesOf('data/root.img'));
    assert.equal(url, 'https://h:1/vms/fedora/u-1/fedora-root/root.qcow2?a=b');
  });

  it('stand for the creation of the request in UTC, whatever its time zone', () => {
    for (const [creationTimestamp, text] of [
      ['2026-11-30T01:42:01Z', '2026-11-30/20261130T014201Z'],
      ['2026-11-30T01:42:01+02:00', '2026-11-29/20261129T234201Z'],
      ['2026-11-30T23:59:59.999Z', '2026-11-30/20261130T235959Z'],
    ] as const) {
      const request = validateDiskExport(changed({ 'metadata.creationTimestamp': creationTimestamp }));
      assert.equal(expandPlaceholders('{date}/{timestamp}', placeholderValues(request, 'disk.img')), text);
    }
    for (const name of ['date', 'timestamp', 'scheduledTime'])
      assert.throws(() => expandPlaceholders(`{${name}}`, valuesOf('disk.img')), {
        ...INVALID,
        message: new RegExp(`^{${name}} .* needs`),
      });
  });

  it('stand for the time for which a schedule made the request, or else for its creation', () => {
    const metadata = { name: 'fedora', creationTimestamp: '2026-11-30T01:42:01Z' };
    const expand = (annotation?: string) => {
      const annotations = annotation === undefined ? {} : { [SCHEDULED_TIME]: annotation };
      const request = validateDiskExport(changed({ metadata: { ...metadata, annotations } }));
      return expandPlaceholders('{scheduledTime}', placeholderValues(request, 'disk.img'));
    };
    assert.equal(expand('2026-11-30T03:00:00+02:00'), '20261130T010000Z');
    assert.equal(expand(), '20261130T014201Z');
    for (const text of ['yesterday', '2026', ''])
      assert.throws(() => expand(text), { ...INVALID, message: /RFC 3339 in the annotation disklift.dev.scheduled-time/ }, text);
  });

  it('stand for the snapshot where the source is a snapshot', () => {
    const request = validateDiskExport(changed({ 'spec.source': { volumeSnapshot: { name: 'monday' } } }));
    assert.equal(expandPlaceholders('{claim}/{disk}', placeholderValues(request, 'data/a.img')), 'monday/a');
    assert.throws(() => expandPlaceholders('{vm}', placeholderValues(request, 'a.img')), {
      ...INVALID,
      message: /only for a virtualMachine/,
    });
  });

  for (const [diskPath, text] of [
    ['root', 'fedora.1/root/root'],
    ['data-1', 'fedora.1/data-1/data-1'],
    ['data/b/c.img', 'fedora.1/data/data-c'],
    ['vm.yaml', 'fedora.1/vm/vm'],
  ] as const)
    it(`stand for a virtual machine and its volume: ${diskPath}`, () => {
      const request = validateDiskExport(changed({ 'spec.source': { virtualMachine: { name: 'fedora.1' } } }));
      assert.equal(expandPlaceholders('{vm}/{claim}/{disk}', placeholderValues(request, diskPath)), text);
    });

  for (const [diskPath, disk] of [
    ['disk.img', 'disk'],
    ['disk', 'disk'],
    ['.', 'disk'],
    ['a/b/root.disk.raw', 'root.disk'],
    ['.hidden', '.hidden'],
    ['second disk.qcow2', 'second%20disk'],
    ['größe.img', 'gr%C3%B6%C3%9Fe'],
    ["a?b#c%d&e+f:g@h!i'j(k)l*m~n.img", 'a%3Fb%23c%25d%26e%2Bf%3Ag%40h%21i%27j%28k%29l%2Am~n'],
    ['a/{disk}.img', '%7Bdisk%7D'],
    ['...', '...'],
    ['..img', '..img'],
  ] as const)
    it(`have the disk ${diskPath} as ${disk}`, () => {
      assert.equal(expandPlaceholders('{disk}', valuesOf(diskPath)), disk);
    });

  it(`never lead out of the path that they stand in ${SEED_TEXT}`, () => {
    const fileName = fc.string({
      minLength: 1,
      maxLength: 12,
      unit: fc.oneof(fc.constantFrom('.', '%', '/', '\\', ' '), fc.string({ unit: 'grapheme', minLength: 1, maxLength: 1 })),
    });
    const diskPath = fileName.filter((path) => path.split('/').every((part) => !['', '.', '..'].includes(part)));
    fc.assert(
      fc.property(diskPath, (path) => {
        const { pathname, search, hash } = new URL(expandUrl('http://h/a/{disk}/b', valuesOf(path)));
        assert.match(pathname, /^\/a\/[^/]+\/b$/);
        assert.equal(search + hash, '');
      }),
      { seed: SEED, numRuns: 500 },
    );
  });

  it('are refused where they would change where a connection goes', () => {
    for (const template of [
      'https://{name}.example/',
      'https://h/?{disk}',
      'https://{disk}:1/',
      'https://h/{volume}',
      'https://h/{',
      'https://h/}',
    ])
      assert.throws(() => expandUrl(template, valuesOf('a')), INVALID, template);
    assert.throws(() => expandPlaceholders('{constructor}', valuesOf('a')), INVALID);
    assert.throws(() => expandPlaceholders('{disk}', valuesOf('\ud800.img')), INVALID);
  });

  it('cause an error without any text of a malformed URL', () => {
    for (const template of ['s3cret', 'ftp://s3cret/', 'https://s3cret:99999/', 'https://[s3cret]/'])
      assert.throws(
        () => expandUrl(template, valuesOf('a')),
        ({ code, message }) => code === 'InvalidRequest' && !message.includes('s3cret'),
      );
  });
});

describe('requireDistinct', () => {
  it('refuses two disks that would go to the same place, and names both', () => {
    const expand = (disk: string) => ({ disk, destination: expandPlaceholders('{name}/{disk}', valuesOf(disk)) });
    requireDistinct(['a.img', 'b.img'].map(expand));
    assert.throws(
      () => requireDistinct(['a.img', 'b.img', 'old/a.raw'].map(expand)),
      ({ code, message }) => code === 'InvalidRequest' && message.includes('"a.img"') && message.includes('"old/a.raw"'),
    );
  });
});
