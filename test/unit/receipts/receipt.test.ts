import assert from 'node:assert/strict';
import { type ImageReceipt, parseReceipt, receiptBytes } from '../../../src/receipts/receipt.ts';
import { parseTracker, trackerBytes } from '../../../src/receipts/tracker.ts';

const SHA = 'ab'.repeat(32);

const RECEIPT: ImageReceipt = {
  image: {
    place: 'a/b.qcow2',
    sizeBytes: 1000,
    sha256: SHA,
    etag: '"x"',
    proof: 'ETag',
    virtualSizeBytes: 4096,
    dataClusters: 1,
    layout: 'Converted',
    options: { clusterSizeBytes: 65536, version: 3, refcountBits: 16 },
  },
  disk: { namespace: 'vms', source: { kind: 'PersistentVolumeClaim', name: 'root' }, path: 'disk.img' },
  export: { name: 'monday', uid: 'u-1', created: '2026-11-30T01:42:01Z' },
  time: '2026-11-30T02:00:00Z',
  snapshotTime: '2026-11-30T01:50:00.123+01:00',
  consistency: 'Crash',
  type: 'Incremental',
  reason: 'BlockHashes',
  changedBytes: 65536,
  readBytes: 4096,
  base: { place: 'a/a.qcow2', sha256: SHA, sizeBytes: 900, virtualSizeBytes: 4096 },
  points: {
    blocks: { place: 'a/b.qcow2.blocks', sha256: SHA, sizeBytes: 96 },
    snapshot: { driver: 'csi.example', handle: 'h', name: 's' },
    checkpoint: { vm: 'fedora', vmUid: 'u', name: 'c' },
  },
};

type Fields = Record<string, unknown>;

/** A receipt with one field changed, by its path. */
function changed(path: string, value: unknown): Uint8Array {
  const copy = JSON.parse(Buffer.from(receiptBytes(RECEIPT)).toString()) as Fields;
  const names = path.split('.');
  const last = names.pop() as string;
  const place = names.reduce((at, name) => at[name] as Fields, copy);
  if (value === undefined) delete place[last];
  else place[last] = value;
  return Buffer.from(JSON.stringify(copy));
}

const FULL: ImageReceipt = (() => {
  const { base: _, reason: __, changedBytes: ___, snapshotTime: ____, consistency: _____, ...rest } = RECEIPT;
  return { ...rest, type: 'Full', points: {} };
})();

describe('the receipt of an image', () => {
  for (const [name, receipt] of Object.entries({ incremental: RECEIPT, full: FULL }))
    it(`is read as it was written, for an ${name} image`, () => {
      assert.deepEqual(parseReceipt(receiptBytes(receipt)), { value: receipt });
    });

  it('keeps out fields that it does not know, at every level', () => {
    const copy = JSON.parse(Buffer.from(receiptBytes(RECEIPT)).toString()) as Fields;
    const noise = { extra: 1, ['__proto__']: { polluted: true } };
    Object.assign(copy, { extra: 'x' });
    Object.assign(copy.image as Fields, noise);
    Object.assign(copy.points as Fields, { future: {} });
    const parsed = parseReceipt(Buffer.from(JSON.stringify(copy).replace('"extra":1', '"__proto__":{"polluted":true}')));
    assert.deepEqual(parsed, { value: RECEIPT });
    assert.equal(({} as { polluted?: boolean }).polluted, undefined);
  });

  const REFUSED: readonly [sentence: string, bytes: Uint8Array, problem: RegExp][] = [
    ['an empty file', Buffer.alloc(0), /is no JSON/],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x7b]), /is no JSON/],
    ['a list', Buffer.from('[]'), /is no object/],
    ['null', Buffer.from('null'), /is no object/],
    ['another format', changed('format', 'disklift-receipt/2'), /has not the format/],
    ['a size that is a text', changed('image.sizeBytes', '1000'), /^image\.sizeBytes: /],
    ['a negative size', changed('image.sizeBytes', -1), /^image\.sizeBytes: /],
    ['a size beyond exact numbers', changed('image.sizeBytes', 2 ** 53), /^image\.sizeBytes: /],
    ['a fraction', changed('base.virtualSizeBytes', 1.5), /^base\.virtualSizeBytes: /],
    ['a digest of capitals', changed('image.sha256', SHA.toUpperCase()), /^image\.sha256: /],
    ['a short digest', changed('base.sha256', 'ab'), /^base\.sha256: /],
    ['a place with a line end', changed('image.place', 'a\nb'), /^image\.place: /],
    ['an empty place', changed('base.place', ''), /^base\.place: /],
    ['a missing disk', changed('disk', undefined), /^disk: is required/],
    ['a disk without a name', changed('disk.source.name', undefined), /^disk\.source\.name: is required/],
    ['an unknown type', changed('type', 'Differential'), /^type: /],
    ['a base that is null', changed('base', null), /^base: /],
    ['an incremental image without a base', changed('base', undefined), /^base: must be there/],
    ['a full image with a base', changed('type', 'Full'), /^base: must be there/],
    ['a time in other words', changed('time', 'Monday'), /^time: /],
    ['points that are a list', changed('points', []), /^points: /],
  ];
  for (const [sentence, bytes, problem] of REFUSED)
    it(`refuses ${sentence}`, () => {
      const parsed = parseReceipt(bytes);
      assert.ok('problem' in parsed);
      assert.match(parsed.problem, problem);
    });
});

describe('the tracker of a disk', () => {
  const tracker = { image: { place: 'a/b.qcow2', sha256: SHA }, disk: RECEIPT.disk, time: '2026-11-30T02:00:00Z' };

  it('is read as it was written', () => {
    assert.deepEqual(parseTracker(trackerBytes(tracker)), { value: tracker });
  });

  it('refuses a receipt in its place, and a file of zeros', () => {
    assert.ok('problem' in parseTracker(receiptBytes(RECEIPT)));
    assert.ok('problem' in parseTracker(Buffer.alloc(100)));
  });
});
