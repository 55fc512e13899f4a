/**
 * For any content of a file, a parser ends soon, and refuses what it cannot read by a typed error. It reads nothing
 * behind the file's bytes.
 */

// Runs alone: it measures its own memory, and the time of single calls.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { DiskliftError } from '../../src/common/errors.ts';
import { formatOfBytes } from '../../src/formats/formats.ts';
import { resolveName } from '../../src/formats/image-references.ts';
import { parseQcow2References } from '../../src/formats/qcow2/qcow2-reader.ts';
import type { BlockTable } from '../../src/formats/truncation-check.ts';
import { parseVdiBlockMap, parseVdiHeader } from '../../src/formats/vdi/vdi-reader.ts';
import {
  parseVhdxBlockTable,
  parseVhdxDiskSize,
  parseVhdxMetadata,
  parseVhdxRegions,
  placeOfVhdxBlockTable,
  placesOfVhdxDiskItems,
  requireNoVhdxParent,
} from '../../src/formats/vhdx/vhdx-reader.ts';
import { parseVmdkDescriptor, parseVmdkExtents } from '../../src/formats/vmdk/vmdk-descriptor.ts';
import { isFooterUsed, parseVmdkGrains, parseVmdkSparseHeader } from '../../src/formats/vmdk/vmdk-sparse.ts';
import { hasVpcChecksum, hasVpcCookie, parseVpc } from '../../src/formats/vpc/vpc-footer.ts';
import { parseVpcBlockTable } from '../../src/formats/vpc/vpc-reader.ts';
import { createImage } from '../helpers/create-image.ts';
import { createRandom, SEED, SEED_TEXT } from '../helpers/seed.ts';

/** Number of inputs for each parser. */
const INPUTS = 125_000;
const LIMIT_MS = 4000;
/** A quadratic one would take minutes for the largest. */
const SLOWEST_MS = 5000;
const MEMORY_GROWTH_BYTES = 256 * 2 ** 20;

type Random = () => number;

const below = (random: Random, limit: number) => Math.floor(random() * limit);

const INTERESTING = [0, 1, 2, 3, 4, 0x7f, 0x80, 0xff];
const WORDS = ['"', '\n', '=', '../', '/dev/sda', 'nbd:', ' ', 'RW ', ' FLAT ', '\0', '99999999999999999999', 'parentCID=', '\xff'];

/** Mostly a real header with a few changes; now and then noise. */
function mutate(real: Buffer, random: Random): Buffer {
  if (random() < 0.05) return Buffer.from(Array.from({ length: below(random, 64) }, () => below(random, 256)));
  let bytes = Buffer.from(real);
  for (let count = below(random, 5); count > 0; count -= 1) {
    // Most fields are at the beginning.
    const at = below(random, random() < 0.7 ? Math.min(bytes.length, 160) : bytes.length);
    const kind = below(random, 6);
    if (kind === 0) bytes[at] = below(random, 256);
    else if (kind === 1) bytes[at] = INTERESTING[below(random, INTERESTING.length)] ?? 0;
    else if (kind === 2) bytes[at] = (bytes[at] ?? 0) ^ (1 << below(random, 8));
    else if (kind === 3) bytes.fill(random() < 0.5 ? 0xff : 0, at, Math.min(bytes.length, at + 1 + below(random, 8)));
    else if (kind === 4) bytes.write(WORDS[below(random, WORDS.length)] ?? '', at, 'latin1');
    else if (bytes.length > 1 && random() < 0.3) bytes = bytes.subarray(0, at + 1);
  }
  return bytes;
}

/** The same bytes with others around them: the outcome must not depend on those. */
function surrounded(bytes: Buffer, random: Random): Uint8Array {
  const whole = Buffer.alloc(bytes.length + 256, below(random, 256));
  whole.set(bytes, 128);
  return whole.subarray(128, 128 + bytes.length);
}

/** @returns the outcome as text */
function outcomeOf(parse: (bytes: Uint8Array) => unknown, bytes: Uint8Array): string {
  try {
    return JSON.stringify(parse(bytes)) ?? 'nothing';
  } catch (error) {
    assert.ok(error instanceof DiskliftError, `${(error as Error).stack}`);
    assert.ok(error.code === 'FormatUnsupported' || error.code === 'InvalidRequest', error.code);
    return error.message;
  }
}

const ENTRIES = Buffer.from('01000000ffffffffffffffff00000000feffffff060010000600f0ff00000100'.repeat(2), 'hex');

/** Each entry ends at a number, for any content: anything else would lie behind no file's end. */
function saneTable({ what, offset, entryCount, entrySizeBytes, endOf }: BlockTable): unknown {
  assert.ok(offset >= 0 && Number.isInteger(entryCount) && entryCount >= 0, `${what}: ${entryCount} entries at ${offset}`);
  const view = new DataView(ENTRIES.buffer, ENTRIES.byteOffset, ENTRIES.byteLength);
  const ends: number[] = [];
  for (let at = 0; at < ENTRIES.length && entryCount > 0; at += entrySizeBytes) {
    const end = endOf(view, { at, index: Math.min(at / entrySizeBytes, entryCount - 1) });
    assert.ok(end >= 0, `${what} leads to ${end}`);
    ends.push(end);
  }
  return [offset, entryCount, ends];
}

function saneVmdkDescriptor(bytes: Uint8Array, name: string): unknown {
  const descriptor = parseVmdkDescriptor(bytes, name);
  return [descriptor, parseVmdkExtents(descriptor.extentLines, name)];
}

function saneGrains(header: Uint8Array, name: string): unknown {
  const { directory, table, tableSizeBytes } = parseVmdkGrains(header, name);
  assert.ok(tableSizeBytes > 0 && tableSizeBytes <= 16_384);
  return [isFooterUsed(header, name), saneTable(directory), saneTable(table(Math.max(0, directory.entryCount - 1), 512))];
}

describe('parsers of image files', () => {
  let directory = '';
  const { stackTraceLimit } = Error;
  before(async () => {
    // Most inputs end in an error, and its stack would take most of the time.
    Error.stackTraceLimit = 0;
    directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-test-'));
    const make = (name: string, format: string, ...options: string[]) =>
      createImage(path.join(directory, name), { format, options, size: '4M' });
    await make('b.raw', 'raw');
    await createImage(path.join(directory, 'a.qcow2'), {
      ...{ format: 'qcow2', options: ['cluster_size=512'], backing: { name: 'b.raw', format: 'raw' } },
    });
    await make('a.vmdk', 'vmdk', 'subformat=monolithicSparse');
    await make('b.vmdk', 'vmdk', 'subformat=twoGbMaxExtentFlat');
    await make('a.vhdx', 'vhdx');
    await make('a.vhd', 'vpc');
    await make('a.vdi', 'vdi');
  });
  after(() => {
    Error.stackTraceLimit = stackTraceLimit;
    rmSync(directory, { recursive: true, force: true });
  });

  const read = (name: string, start = 0, length = 512) => {
    const bytes = readFileSync(path.join(directory, name));
    return bytes.subarray(start < 0 ? bytes.length + start : start).subarray(0, length);
  };
  const metadataAt = () => read('a.vhdx', 0, 2 ** 24).indexOf('metadata', 256 * 1024);
  const name = 'disk';

  const PARSERS: Record<string, { real: () => Buffer; parse(bytes: Uint8Array): unknown }> = {
    probe: { real: () => read('a.vdi'), parse: (bytes) => [formatOfBytes(bytes), hasVpcCookie(bytes)] },
    qcow2: { real: () => read('a.qcow2'), parse: (bytes) => parseQcow2References(bytes, name) },
    'VMDK descriptor': { real: () => read('b.vmdk'), parse: (bytes) => saneVmdkDescriptor(bytes, name) },
    'VMDK sparse header': { real: () => read('a.vmdk', 0, 80), parse: (bytes) => parseVmdkSparseHeader(bytes, name) },
    'VHDX regions': { real: () => read('a.vhdx', 192 * 1024), parse: (bytes) => parseVhdxRegions(bytes, name) },
    'VHDX metadata': { real: () => read('a.vhdx', metadataAt()), parse: (bytes) => parseVhdxMetadata(bytes, name) },
    'VHDX file parameters': {
      real: () => read('a.vhdx', metadataAt() + 65_536, 8),
      parse: (bytes) => requireNoVhdxParent(bytes, name),
    },
    VHD: {
      real: () => Buffer.concat([read('a.vhd'), read('a.vhd', -512)]),
      parse: (bytes) => [parseVpc({ head: bytes.subarray(0, 512), footer: bytes.subarray(-512), name }), hasVpcChecksum(bytes)],
    },
    VDI: { real: () => read('a.vdi'), parse: (bytes) => parseVdiHeader(bytes, name) },
    'VDI block map': { real: () => read('a.vdi'), parse: (bytes) => saneTable(parseVdiBlockMap(bytes, name)) },
    'VHD block table': {
      real: () => read('a.vhd', 512, 1024),
      parse: (bytes) => saneTable(parseVpcBlockTable(bytes, { kind: 'fixed', sizeBytes: 2 ** 22 }, name)),
    },
    'VHDX disk size': {
      real: () => Buffer.from('000000004000000000020000', 'hex'),
      parse: (bytes) => parseVhdxDiskSize({ diskSize: bytes.subarray(0, 8), logicalSectorSize: bytes.subarray(8), name }),
    },
    'VHDX places': {
      real: () => Buffer.concat([read('a.vhdx', 192 * 1024), read('a.vhdx', metadataAt())]),
      parse: (bytes) => [placeOfVhdxBlockTable(bytes.subarray(0, 512), name), placesOfVhdxDiskItems(bytes.subarray(-512), name)],
    },
    'VHDX block table': {
      real: () => Buffer.from('000080000000000000004000000000000002000000000000', 'hex'),
      parse(bytes) {
        const [fileParameters, diskSize, logicalSectorSize] = [bytes.subarray(0, 8), bytes.subarray(8, 16), bytes.subarray(16)];
        return saneTable(parseVhdxBlockTable({ offset: 0, name, fileParameters, diskSize, logicalSectorSize }));
      },
    },
    'VMDK grains': {
      real: () => read('a.vmdk', 0, 80),
      parse: (bytes) => (parseVmdkSparseHeader(bytes, name) === undefined ? 'none' : saneGrains(bytes, name)),
    },
  };

  for (const [what, { real, parse }] of Object.entries(PARSERS))
    it(`${what}: ${INPUTS} inputs ${SEED_TEXT}`, () => {
      const random = createRandom(SEED);
      const bytes = real();
      const understood = outcomeOf(parse, bytes);
      assert.doesNotMatch(understood, /^disk:/, 'the real one is understood');
      const outcomes = new Set<string>();
      const rssBefore = process.memoryUsage.rss();
      const startMs = performance.now();
      let slowestMs = 0;
      let done = 0;
      for (let lastMs = startMs; done < INPUTS && lastMs - startMs < LIMIT_MS; done += 1) {
        const input = mutate(bytes, random);
        const outcome = outcomeOf(parse, input);
        if (outcomes.size < 100) outcomes.add(outcome);
        if (done % 16 === 0) assert.equal(outcomeOf(parse, surrounded(input, random)), outcome, input.toString('hex'));
        const nowMs = performance.now();
        slowestMs = Math.max(slowestMs, nowMs - lastMs);
        lastMs = nowMs;
      }
      assert.ok(outcomes.size > 1, [...outcomes].join('\n'));
      assert.ok(slowestMs < SLOWEST_MS, `one took ${slowestMs} ms`);
      assert.ok(process.memoryUsage.rss() - rssBefore < MEMORY_GROWTH_BYTES);
      if (done < INPUTS) console.log(`      ${what}: ${done} inputs in ${LIMIT_MS} ms`);
    });

  it(`resolve a name to a path beneath the volume, or refuse it ${SEED_TEXT}`, () => {
    const random = createRandom(SEED);
    const pieces = ['..', '.', 'a', '/', '/', '//', 'b.raw', ':', 'nbd:', '\\', ' ', '\0', '\n', 'größe', '%2e%2e', '…'];
    for (let done = 0; done < INPUTS; done += 1) {
      const text = Array.from({ length: below(random, 8) }, () => pieces[below(random, pieces.length)]).join('');
      let resolved: string;
      try {
        resolved = resolveName({ name: text, from: 'x/y/disk.qcow2', image: 'disk', what: 'backing file' });
      } catch (error) {
        assert.ok(error instanceof DiskliftError && error.code === 'InvalidRequest', `${error}`);
        continue;
      }
      const parts = resolved.split('/');
      assert.ok(
        parts.every((part) => part !== '' && part !== '.' && part !== '..' && !part.includes('\0')),
        `${JSON.stringify(text)} became ${resolved}`,
      );
      assert.equal(path.resolve('/volume', resolved), path.resolve('/volume/x/y', text));
    }
  });

  it('parse the largest descriptors in no time', () => {
    const head = 'version=1\nCID=1\nRW 1 ZERO\n';
    for (const piece of [' ', 'a', '=', '"', 'a=', 'RW ', 'RW 1 FLAT "', 'RW\t', '\n', 'a = ', 'RW 1 ZERO\n', '\u00a0', '1'])
      for (const [before, behind] of [
        ['', ''],
        ['x', 'x'],
        ['a=', '"'],
        ['RW 1', '"'],
      ]) {
        const text = `${head}${before}${piece.repeat((2 ** 20 - 100) / Buffer.byteLength(piece))}${behind}`;
        const startMs = performance.now();
        outcomeOf((bytes) => saneVmdkDescriptor(bytes, 'disk'), Buffer.from(text).subarray(0, 2 ** 20));
        const tookMs = performance.now() - startMs;
        assert.ok(tookMs < SLOWEST_MS, `${JSON.stringify(`${before}${piece}…${behind}`)} took ${tookMs} ms`);
      }
  });
});
