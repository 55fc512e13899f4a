/**
 * An independent reader of qcow2 metadata that shares no code with the program. Stricter than `qemu-img check`:
 * every cluster of the file is used exactly once, refcounts behind the last cluster are 0, reserved bits are 0.
 */

import assert from 'node:assert/strict';

export interface WalkedImage {
  version: number;
  virtualSizeBytes: number;
  clusterSizeBytes: number;
  /** Guest cluster to host offset. */
  mapping: Map<number, number>;
  /** Guest clusters with the zero flag. */
  zeros: number[];
  backing?: { name: string; format: string };
}

/** The backing file's name, and its format in a header extension, which ends before the name. */
function readBacking(image: Buffer, clusterSizeBytes: number): WalkedImage['backing'] {
  const offset = Number(image.readBigUInt64BE(8));
  if (offset === 0) return undefined;
  assert.equal(image.readUInt32BE(4), 3);
  const end = offset + image.readUInt32BE(16);
  assert.ok(end <= clusterSizeBytes && end - offset <= 1023, 'the name lies in the first cluster');
  const formats: string[] = [];
  let at = image.readUInt32BE(100);
  for (; image.readUInt32BE(at) !== 0; at += 8 + Math.ceil(image.readUInt32BE(at + 4) / 8) * 8)
    if (image.readUInt32BE(at) === 0xe2792aca) formats.push(image.toString('latin1', at + 8, at + 8 + image.readUInt32BE(at + 4)));
  assert.ok(at + 8 <= offset, 'the extensions end in front of the name');
  assert.equal(formats.length, 1);
  return { name: image.toString('utf8', offset, end), format: formats[0] as string };
}

const COPIED = 1n << 63n;

function entryOffset(entry: bigint, clusterSizeBytes: number): number {
  assert.ok((entry & COPIED) !== 0n, 'the COPIED flag is set');
  const offset = Number(entry & ~COPIED);
  assert.equal(offset % clusterSizeBytes, 0, 'the offset is aligned to clusters');
  return offset;
}

function refcountAt(block: Buffer, index: number, bits: number): bigint {
  if (bits >= 8) return BigInt(`0x${block.subarray((index * bits) / 8, ((index + 1) * bits) / 8).toString('hex')}`);
  const bit = index * bits;
  return BigInt(((block[bit >> 3] as number) >> (bit & 7)) & ((1 << bits) - 1));
}

export function walkImage(image: Buffer, { externalData = false } = {}): WalkedImage {
  assert.equal(image.toString('latin1', 0, 4), 'QFI\xfb');
  const version = image.readUInt32BE(4);
  const clusterSizeBytes = 1 << image.readUInt32BE(20);
  const virtualSizeBytes = Number(image.readBigUInt64BE(24));
  const l1Entries = image.readUInt32BE(36);
  const l1Offset = Number(image.readBigUInt64BE(40));
  const tableOffset = Number(image.readBigUInt64BE(48));
  const tableClusters = image.readUInt32BE(56);
  const refcountBits = version === 2 ? 16 : 1 << image.readUInt32BE(96);
  assert.equal(image.length % clusterSizeBytes, 0, 'the image is whole clusters');

  const used = new Set<number>();
  const use = (offset: number) => {
    const cluster = offset / clusterSizeBytes;
    assert.ok(offset + clusterSizeBytes <= image.length, `cluster ${cluster} lies in the file`);
    assert.ok(!used.has(cluster), `cluster ${cluster} is used once`);
    used.add(cluster);
  };
  const useAll = (offset: number, bytes: number) => {
    for (let at = 0; at < bytes; at += clusterSizeBytes) use(offset + at);
  };

  use(0);
  useAll(tableOffset, tableClusters * clusterSizeBytes);
  useAll(l1Offset, l1Entries * 8);
  const entriesPerTable = clusterSizeBytes / 8;
  const mapping = new Map<number, number>();
  const zeros: number[] = [];
  for (let l1 = 0; l1 < l1Entries; l1 += 1) {
    const l1Entry = image.readBigUInt64BE(l1Offset + l1 * 8);
    if (l1Entry === 0n) continue;
    const l2Offset = entryOffset(l1Entry, clusterSizeBytes);
    use(l2Offset);
    let entryCount = 0;
    for (let l2 = 0; l2 < entriesPerTable; l2 += 1) {
      const l2Entry = image.readBigUInt64BE(l2Offset + l2 * 8);
      if (l2Entry === 0n) continue;
      const guestCluster = l1 * entriesPerTable + l2;
      entryCount += 1;
      assert.ok(guestCluster * clusterSizeBytes < virtualSizeBytes, `guest cluster ${guestCluster} lies in the disk`);
      if (l2Entry === 1n) {
        assert.equal(version, 3);
        zeros.push(guestCluster);
        continue;
      }
      const hostOffset = entryOffset(l2Entry, clusterSizeBytes);
      if (externalData) assert.equal(hostOffset, guestCluster * clusterSizeBytes);
      else use(hostOffset);
      mapping.set(guestCluster, hostOffset);
    }
    assert.ok(entryCount > 0, 'no table is empty');
  }

  const perBlock = (clusterSizeBytes * 8) / refcountBits;
  const blocks: { offset: number; first: number }[] = [];
  for (let index = 0; index < tableClusters * entriesPerTable; index += 1) {
    const offset = Number(image.readBigUInt64BE(tableOffset + index * 8));
    if (offset === 0) continue;
    use(offset);
    blocks.push({ offset, first: index * perBlock });
  }
  const clusterTotal = image.length / clusterSizeBytes;
  assert.equal(used.size, clusterTotal, 'every cluster of the file is used');
  let counted = 0;
  for (const { offset, first } of blocks) {
    const block = image.subarray(offset, offset + clusterSizeBytes);
    for (let index = 0; index < perBlock; index += 1) {
      const expected = first + index < clusterTotal ? 1n : 0n;
      assert.equal(refcountAt(block, index, refcountBits), expected, `refcount of cluster ${first + index}`);
      counted += Number(expected);
    }
  }
  assert.equal(counted, clusterTotal, 'every cluster has a refcount');
  const backing = readBacking(image, clusterSizeBytes);
  return { version, virtualSizeBytes, clusterSizeBytes, mapping, zeros, ...(backing === undefined ? {} : { backing }) };
}
