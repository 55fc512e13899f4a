/** The messages of KubeVirt's service kubevirt.nbd.NBD (pkg/storage/cbt/nbd/v1/nbd.proto), as protobuf writes them. */

import assert from 'node:assert/strict';

export interface NbdQuestion {
  exportName: string;
  /** Empty for a map of allocation. Not part of a read. */
  bitmapName: string;
  offset: number;
  length: number;
}

const [VARINT, BYTES] = [0, 2];

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value);
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest > 0n ? low | 0x80 : low);
  } while (rest > 0n);
  return Buffer.from(bytes);
}

/** Fields with the default value are left out, as in proto3. */
const numberField = (field: number, value: number) =>
  value === 0 ? Buffer.alloc(0) : Buffer.concat([varint((field << 3) | VARINT), varint(value)]);
const bytesField = (field: number, value: Uint8Array) =>
  value.length === 0 ? Buffer.alloc(0) : Buffer.concat([varint((field << 3) | BYTES), varint(value.length), value]);

function* fieldsOf(message: Buffer): Generator<[field: number, value: number | Buffer]> {
  let at = 0;
  const readVarint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[at];
      assert.ok(byte !== undefined, 'a message ends within a number');
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number(value);
    }
  };
  while (at < message.length) {
    const tag = readVarint();
    const number = readVarint();
    if ((tag & 7) === VARINT) yield [tag >> 3, number];
    else {
      assert.equal(tag & 7, BYTES);
      yield [tag >> 3, message.subarray(at, at + number)];
      at += number;
    }
  }
}

/** @param method Map has the name of a bitmap as its second field; Read has none, and its numbers come one earlier */
export function readQuestion(message: Buffer, method: 'Map' | 'Read'): NbdQuestion {
  const fields = new Map(fieldsOf(message));
  const [offsetField, lengthField] = method === 'Map' ? [3, 4] : [2, 3];
  const bitmap = method === 'Map' ? fields.get(2) : undefined;
  return {
    exportName: `${fields.get(1) ?? ''}`,
    bitmapName: `${bitmap ?? ''}`,
    offset: Number(fields.get(offsetField) ?? 0),
    length: Number(fields.get(lengthField) ?? 0),
  };
}

export interface NbdExtent {
  offset: number;
  length: number;
  flags: number;
  description: string;
}

export function writeMapResponse(extents: readonly NbdExtent[]): Buffer {
  const last = extents.at(-1);
  assert.ok(last !== undefined);
  const messages = extents.map(({ offset, length, flags, description }) =>
    Buffer.concat([numberField(1, offset), numberField(2, length), numberField(3, flags), bytesField(4, Buffer.from(description))]),
  );
  return Buffer.concat([...messages.map((message) => bytesField(1, message)), numberField(2, last.offset + last.length)]);
}

export function writeDataChunk(offset: number, data: Uint8Array): Buffer {
  return Buffer.concat([numberField(1, offset), bytesField(2, data)]);
}
