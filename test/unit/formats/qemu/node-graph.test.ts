import assert from 'node:assert/strict';
import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { DiskFormat } from '../../../../src/formats/formats.ts';
import type { ImageFile } from '../../../../src/formats/image-file.ts';
import { createNodeGraph, type NodeGraph } from '../../../../src/formats/qemu/node-graph.ts';

const MIB = 1024 * 1024;

/** Only what is asked for by graphs; none of it is opened. */
function file(name: string, format: DiskFormat, references: Pick<ImageFile, 'backing' | 'dataFile' | 'extents'> = {}): ImageFile {
  return { name, format, handle: {} as FileHandle, opened: {} as BigIntStats, libc: undefined, reopen: assert.fail, ...references };
}

function graphOf(root: ImageFile, blockDevice?: ImageFile): NodeGraph {
  return createNodeGraph(root, { firstFd: 5, isBlockDevice: (each) => each === blockDevice });
}

const bytes = (fd: number) => ({ driver: 'file', filename: `/proc/self/fd/${fd}`, 'read-only': true, locking: 'off' });
const names = ({ inherited }: NodeGraph) => inherited.map((each) => (each.kind === 'image' ? each.file.name : each.kind));

describe('a node graph', () => {
  it('is one node over one descriptor for an image by itself, which has no backing file and cannot find one', () => {
    const graph = graphOf(file('a', 'qcow2'));
    assert.deepEqual(graph.disk, { 'node-name': 'disk', driver: 'qcow2', 'read-only': true, file: bytes(5), backing: null });
    assert.deepEqual(names(graph), ['a']);
  });

  it('states no backing file for formats that have none', () => {
    for (const format of ['vhdx', 'vdi', 'vpc'] as const)
      assert.deepEqual(graphOf(file('a', format)).disk, { 'node-name': 'disk', driver: format, 'read-only': true, file: bytes(5) });
  });

  it('follows a chain to its end, which is stated as null', () => {
    const graph = graphOf(file('a', 'qcow2', { backing: file('b', 'qcow2', { backing: file('c', 'raw') }) }));
    assert.deepEqual(graph.disk, {
      'node-name': 'disk',
      driver: 'qcow2',
      'read-only': true,
      file: bytes(5),
      backing: {
        driver: 'qcow2',
        'read-only': true,
        file: bytes(6),
        backing: { driver: 'raw', 'read-only': true, file: bytes(7) },
      },
    });
    assert.deepEqual(names(graph), ['a', 'b', 'c']);
  });

  it('ends a chain of VMDKs as well', () => {
    const graph = graphOf(file('a', 'vmdk', { backing: file('b', 'vmdk') }));
    assert.deepEqual(graph.disk.backing, { driver: 'vmdk', 'read-only': true, file: bytes(6), backing: null });
  });

  it('gives the data file', () => {
    const graph = graphOf(file('a', 'qcow2', { dataFile: file('d', 'raw') }));
    assert.deepEqual(graph.disk['data-file'], bytes(6));
    assert.deepEqual(names(graph), ['a', 'd']);
  });

  it('reads a block device past the page cache', () => {
    const root = file('a', 'qcow2');
    assert.deepEqual(graphOf(root, root).disk.file, { ...bytes(5), driver: 'host_device', cache: { direct: true } });
  });

  it('gives QEMU a descriptor of ours in place of the VMDK that names its extents', () => {
    const twice = file('flat', 'raw');
    const graph = graphOf(
      file('a', 'vmdk', {
        extents: [
          { kind: 'flat', file: twice, offsetBytes: 0, sizeBytes: MIB },
          { kind: 'zero', sizeBytes: 2 * MIB },
          { kind: 'sparse', file: file('s', 'vmdk'), sizeBytes: 3 * MIB },
          { kind: 'zero', sizeBytes: 5 * MIB },
          { kind: 'flat', file: twice, offsetBytes: MIB, sizeBytes: MIB },
        ],
      }),
    );
    const { disk, inherited } = graph;
    const [text] = inherited.filter((each) => each.kind === 'text');
    assert.deepEqual(
      text?.text.split('\n').filter((line) => line.startsWith('RW')),
      [
        'RW 2048 FLAT "/proc/self/fd/5" 0',
        'RW 4096 FLAT "/proc/self/fd/6" 0',
        'RW 6144 SPARSE "/proc/self/fd/7"',
        'RW 10240 FLAT "/proc/self/fd/6" 0',
        'RW 2048 FLAT "/proc/self/fd/5" 2048',
      ],
    );
    assert.deepEqual(names(graph), ['flat', 'zeros', 's', 'text']);
    assert.deepEqual(inherited[1], { kind: 'zeros', sizeBytes: 5 * MIB, fd: 6 });
    assert.deepEqual(disk, { 'node-name': 'disk', driver: 'vmdk', 'read-only': true, 'force-share': true, file: bytes(8), backing: null });
  });
});
