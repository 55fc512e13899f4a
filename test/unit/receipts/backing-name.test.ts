import assert from 'node:assert/strict';
import { validateOptions } from '../../../src/qcow2/write/options.ts';
import { backingNameOf, partsOfKey, partsOfUrlPath } from '../../../src/receipts/backing-name.ts';

const OPTIONS = { clusterSizeBytes: 65536, version: 3, refcountBits: 16 } as const;

describe('the name of a base in an image', () => {
  const NAMES: readonly [from: string, to: string, name: string][] = [
    ['a/new.qcow2', 'a/old.qcow2', 'old.qcow2'],
    ['new.qcow2', 'old.qcow2', 'old.qcow2'],
    ['a/b/new.qcow2', 'a/c/old.qcow2', '../c/old.qcow2'],
    ['new', 'a/b/old', 'a/b/old'],
    ['a/b/new', 'old', '../../old'],
    ['a/b/new', 'a/b/c/old', 'c/old'],
    ['a/a/new', 'a/new', '../new'],
    ['a/new', 'a/nbd:x', './nbd:x'],
    ['new', 'json:{}', './json:{}'],
    ['new', 'a/b:c', 'a/b:c'],
    ['new', 'ä %41', 'ä %41'],
    ['a..b/new', 'a..c/old', '../a..c/old'],
  ];
  for (const [from, to, name] of NAMES)
    it(`leads from ${from} to ${to} as ${name}`, () => {
      assert.equal(backingNameOf(partsOfKey(from), partsOfKey(to)), name);
      validateOptions({ ...OPTIONS, backingFile: { name, format: 'qcow2' } });
    });

  const NONE: readonly [from: string, to: string][] = [
    ['a/new', '/old'],
    ['/new', 'old'],
    ['a//new', 'a/old'],
    ['a/new', 'a/'],
    ['a/../new', 'old'],
    ['new', './old'],
    ['new', 'a/../old'],
    ['new', 'a/..'],
    ['new', ''],
    ['new', 'a\u0000b'],
    ['new', 'a\nb'],
    ['new', 'x'.repeat(256)],
    ['new', Array(20).fill('y'.repeat(60)).join('/')],
    ['a/new', 'a/new'],
  ];
  for (const [from, to] of NONE)
    it(`does not exist from ${JSON.stringify(from)} to ${JSON.stringify(to.slice(0, 20))}`, () => {
      assert.equal(backingNameOf(partsOfKey(from), partsOfKey(to)), undefined);
    });

  it('has the decoded names of a path of a URL', () => {
    assert.equal(backingNameOf(partsOfUrlPath('/a%20b/new'), partsOfUrlPath('/c%C3%A4/old%3A1')), '../cä/old:1');
    assert.equal(backingNameOf(partsOfUrlPath('/a/new'), partsOfUrlPath('/a/b%2Fc')), undefined);
    assert.equal(backingNameOf(partsOfUrlPath('/a/new'), partsOfUrlPath('/a/%2E%2E/c')), undefined);
    assert.equal(backingNameOf(partsOfUrlPath('/a/new'), partsOfUrlPath('/a/%zz')), undefined);
  });
});
