import assert from 'node:assert/strict';
import { encodeHeader } from '../../../../src/qcow2/write/header.ts';
import { DEFAULT_OPTIONS } from '../../../helpers/image-in-process.ts';

const fields = {
  virtualSizeBytes: 0x123456789a00,
  l1EntryCount: 0x01020304,
  l1TableOffset: 0x50000,
  refcountTableOffset: 0x10000,
  refcountTableClusterCount: 3,
};

/** 8 feature names of 48 bytes. */
const FEATURE_TABLE_LENGTH = 384;

describe('header', () => {
  it('has exactly these bytes in version 3', () => {
    const header = Buffer.from(encodeHeader(DEFAULT_OPTIONS, fields));
    const expected = [
      '514649fb 00000003', // magic, version
      '0000000000000000 00000000', // backing file offset and size
      '00000010 0000123456789a00', // cluster bits, size
      '00000000 01020304 0000000000050000', // encryption, L1 entries and offset
      '0000000000010000 00000003', // refcount table offset and clusters
      '00000000 0000000000000000', // snapshots
      '0000000000000000 0000000000000000 0000000000000000', // incompatible, compatible, autoclear features
      '00000004 00000070', // refcount order, header length
      '00 00000000000000', // compression type, padding
      '6803f857 00000180', // feature name table
    ];
    assert.equal(header.toString('hex', 0, 120), expected.join('').replaceAll(' ', ''));
    assert.equal(header.length, 112 + 8 + FEATURE_TABLE_LENGTH);
    assert.equal(header.toString('latin1', 120 + 2, 120 + 11), 'dirty bit');
  });

  it('ends at byte 72 in version 2, because a reader takes later bytes for extensions', () => {
    const header = Buffer.from(encodeHeader({ ...DEFAULT_OPTIONS, version: 2 }, fields));
    assert.equal(header.readUInt32BE(4), 2);
    assert.ok(header.subarray(72).every((byte) => byte === 0));
  });

  it('fits a cluster of 512 bytes, with room for the end of the extensions', () => {
    assert.equal(encodeHeader({ ...DEFAULT_OPTIONS, clusterSizeBytes: 512 }, fields).length, 504);
  });

  it('names the data file by its unpadded length and sets the feature bits', () => {
    const path = '/volumes/größe.img';
    const nameLength = Buffer.byteLength(path);
    const header = Buffer.from(encodeHeader({ ...DEFAULT_OPTIONS, dataFile: { path, raw: true } }, fields));
    assert.equal(header.readBigUInt64BE(72), 4n);
    assert.equal(header.readBigUInt64BE(88), 2n);
    assert.equal(header.toString('latin1', 112, 116), 'DATA');
    assert.equal(header.readUInt32BE(116), nameLength);
    assert.equal(header.toString('utf8', 120, 120 + nameLength), path);
    assert.equal(header.readUInt32BE(120 + Math.ceil(nameLength / 8) * 8), 0x6803f857);
    const notRaw = Buffer.from(encodeHeader({ ...DEFAULT_OPTIONS, dataFile: { path, raw: false } }, fields));
    assert.equal(notRaw.readBigUInt64BE(88), 0n);
  });

  it('names the backing file behind the extensions, one of which has its format', () => {
    const name = 'täglich/full.qcow2';
    const nameLength = Buffer.byteLength(name);
    const header = Buffer.from(encodeHeader({ ...DEFAULT_OPTIONS, backingFile: { name, format: 'qcow2' } }, fields));
    const offset = 112 + 16 + 8 + FEATURE_TABLE_LENGTH + 8;
    assert.equal(header.toString('hex', 8, 20), `${offset.toString(16).padStart(16, '0')}${nameLength.toString(16).padStart(8, '0')}`);
    assert.equal(header.toString('hex', 112, 128), 'e2792aca0000000571636f7732000000');
    assert.equal(header.readUInt32BE(128), 0x6803f857);
    assert.equal(header.readBigUInt64BE(offset - 8), 0n, 'the end of the extensions');
    assert.equal(header.toString('utf8', offset), name);
    assert.ok(
      header.subarray(72, 96).every((byte) => byte === 0),
      'no feature bit',
    );
  });

  it('leaves the names of the features out where the name of the backing file needs the room', () => {
    const encode = (clusterSizeBytes: number, length: number) =>
      encodeHeader({ ...DEFAULT_OPTIONS, clusterSizeBytes, backingFile: { name: 'a'.repeat(length), format: 'raw' } }, fields);
    const withoutNames = 112 + 16 + 8;
    assert.equal(encode(512, 512 - withoutNames).length, 512);
    assert.throws(() => encode(512, 512 - withoutNames + 1), {
      code: 'InvalidRequest',
      message: /the base, a+, does not fit .* 512 bytes/,
    });
    const room = 1024 - withoutNames - 8 - FEATURE_TABLE_LENGTH;
    assert.equal(encode(1024, room).length, 1024);
    assert.equal(encode(1024, room + 1).length, withoutNames + room + 1);
  });

  it('refuses a data file name that does not fit, to the byte', () => {
    const room = 1024 - 112 - 8 - 8 - FEATURE_TABLE_LENGTH;
    const withName = (length: number) =>
      encodeHeader({ ...DEFAULT_OPTIONS, clusterSizeBytes: 1024, dataFile: { path: `/${'a'.repeat(length - 1)}`, raw: false } }, fields);
    assert.equal(withName(room).length, 1024);
    assert.throws(() => withName(room + 1), { code: 'InvalidRequest', message: /does not fit .* larger cluster size/ });
  });
});
