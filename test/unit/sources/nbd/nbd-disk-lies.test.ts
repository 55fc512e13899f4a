/** NBD servers that lie: what was not read is an error that names the offset, never zeros. */

import assert from 'node:assert/strict';
import { NEVER } from '../../../helpers/image-in-process.ts';
import { CONTEXT, type NbdRequest } from '../../../helpers/nbd-fake.ts';
import { chunk, DONE, dataChunk, errorChunk, holeChunk, noneChunk, simpleReply, statusChunk, u32 } from '../../../helpers/nbd-replies.ts';
import { answerTruly, bytesOf, extentsOf, failedAt, SIZE_BYTES, TRUTH, withNbdFake } from '../../../helpers/nbd-scene.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const OFFSET = 8192;
const LENGTH = 4096;
const ASKING = 'cannot ask the server which parts are zeros \\(block status\\)';

describe('an NBD disk', () => {
  const temp = useTempDir();

  const lies: [string, (request: NbdRequest) => Uint8Array, RegExp][] = [
    ['answers with the wrong magic number', () => Buffer.alloc(64, 7), /begins with 0x07070707/],
    ['answers another cookie', (r) => dataChunk(r.offset, bytesOf(r), { cookie: r.cookie + 1n, flags: DONE }), /request that was not made/],
    ['answers simply', (r) => simpleReply(0, r.cookie, bytesOf(r)), /simple reply where structured/],
    [
      'sends too much',
      (r) => dataChunk(r.offset, Buffer.alloc(r.length + 1), { cookie: r.cookie, flags: DONE }),
      /8192 to 12289 in reply to a read of 8192 to 12288|bytes 8192 to/,
    ],
    ['sends what lies before', (r) => dataChunk(r.offset - 1, Buffer.alloc(10), { cookie: r.cookie }), /bytes 8191 to 8201 in reply/],
    ['sends what lies behind', (r) => dataChunk(r.offset + r.length, Buffer.alloc(10), { cookie: r.cookie }), /bytes 12288 to/],
    [
      'sends bytes at an absurd offset',
      (r) => dataChunk(2n ** 64n - 1n, Buffer.alloc(1), { cookie: r.cookie }),
      /offset of 18446744073709551615/,
    ],
    [
      'announces an absurd length',
      (r) => dataChunk(r.offset, Buffer.alloc(2 * LENGTH), { cookie: r.cookie, length: 0xffffffff }),
      /in reply to a read/,
    ],
    [
      'sends a chunk of no data',
      (r) => dataChunk(r.offset, Buffer.alloc(0), { cookie: r.cookie, flags: DONE }),
      /chunk of type 1 in 8 bytes/,
    ],
    ['is done before it has begun', (r) => noneChunk({ cookie: r.cookie, flags: DONE }), /lacks the bytes from offset 8192/],
    [
      'leaves out the end',
      (r) => dataChunk(r.offset, bytesOf(r).subarray(0, 1000), { cookie: r.cookie, flags: DONE }),
      /lacks the bytes from offset 9192/,
    ],
    [
      'leaves out the beginning',
      (r) => dataChunk(r.offset + 512, bytesOf(r).subarray(512), { cookie: r.cookie, flags: DONE }),
      /lacks the bytes from offset 8192/,
    ],
    [
      'leaves out the middle',
      (r) =>
        Buffer.concat([
          dataChunk(r.offset + 2048, bytesOf(r).subarray(2048), { cookie: r.cookie }),
          holeChunk(r.offset, 1024, { cookie: r.cookie, flags: DONE }),
        ]),
      /lacks the bytes from offset 9216/,
    ],
    [
      'sends bytes twice',
      (r) =>
        Buffer.concat([
          dataChunk(r.offset, bytesOf(r), { cookie: r.cookie }),
          holeChunk(r.offset + 100, 1, { cookie: r.cookie, flags: DONE }),
        ]),
      /from offset 8292 that came before/,
    ],
    [
      'sends a hole around bytes',
      (r) =>
        Buffer.concat([
          dataChunk(r.offset + 100, Buffer.alloc(1), { cookie: r.cookie }),
          holeChunk(r.offset, r.length, { cookie: r.cookie, flags: DONE }),
        ]),
      /from offset 8192 that came before/,
    ],
    [
      'sends a read in too many pieces',
      (r) =>
        Buffer.concat(Array.from({ length: 100 }, (_, index) => dataChunk(r.offset + 2 * index, Buffer.alloc(1), { cookie: r.cookie }))),
      /in too many pieces/,
    ],
    ['sends a hole of no length', (r) => holeChunk(r.offset, 0, { cookie: r.cookie }), /hole of no length/],
    ['sends half a hole', (r) => chunk(2, Buffer.alloc(11), { cookie: r.cookie }), /chunk of type 2 in 11 bytes/],
    ['sends a hole that is too long', (r) => holeChunk(r.offset, 0xffffffff, { cookie: r.cookie }), /in reply to a read/],
    [
      'sends a block status',
      (r) => statusChunk(CONTEXT, [r.length, 2], { cookie: r.cookie, flags: DONE }),
      /block status in place of data/,
    ],
    ['sends a chunk of a kind that is not known', (r) => chunk(99, Buffer.alloc(0), { cookie: r.cookie, flags: DONE }), /chunk of type 99/],
    ['sends an empty chunk and goes on', (r) => noneChunk({ cookie: r.cookie }), /empty chunk that is not the last/],
    ['sends a flag that is not known', (r) => noneChunk({ cookie: r.cookie, flags: 3 }), /flags 0x3/],
    ['sends an error of number 0', (r) => errorChunk(0, '', { cookie: r.cookie, flags: DONE }), /error of number 0/],
    [
      'sends an error longer than its chunk',
      (r) => chunk(0x8001, Buffer.concat([u32(5), Buffer.from([1, 0])]), { cookie: r.cookie }),
      /longer than its chunk/,
    ],
    [
      'sends an error of absurd length',
      (r) => chunk(0x8001, Buffer.alloc(0), { cookie: r.cookie, length: 100_000 }),
      /type 32769 in 100000 bytes/,
    ],
    ['sends an error elsewhere', (r) => errorChunk(5, '', { cookie: r.cookie, offset: 0, flags: DONE }), /error at offset 0 in reply/],
  ];
  for (const [what, lie, reason] of lies)
    it(`fails with the offset when the server ${what}, and stays failed`, () =>
      withNbdFake(temp('nbd.sock'), { answer: lie }, async (source) => {
        await assert.rejects(source.read(Buffer.alloc(LENGTH), OFFSET, NEVER), failedAt(OFFSET, reason));
        await assert.rejects(source.read(Buffer.alloc(LENGTH), 0, NEVER), failedAt(0, reason));
      }));

  const errors: [string, (request: NbdRequest) => Uint8Array, number, RegExp][] = [
    ['with an error', (r) => errorChunk(5, '', { cookie: r.cookie, flags: DONE }), OFFSET, /: EIO$/],
    [
      'with an error of its own words',
      (r) => errorChunk(5, 'sector\nis gone', { cookie: r.cookie, flags: DONE }),
      OFFSET,
      /: EIO \(sector is gone\)$/,
    ],
    ['with an error that has no name', (r) => errorChunk(12_345, '', { cookie: r.cookie, flags: DONE }), OFFSET, /: error 12345$/],
    [
      'with the place of an error',
      (r) => errorChunk(5, '', { cookie: r.cookie, offset: OFFSET + 512, flags: DONE }),
      OFFSET + 512,
      /: EIO$/,
    ],
    ['with a simple error', (r) => simpleReply(108, r.cookie), OFFSET, /: ESHUTDOWN$/],
    [
      'with an error behind all of the bytes',
      (r) =>
        Buffer.concat([
          dataChunk(r.offset, bytesOf(r), { cookie: r.cookie }),
          errorChunk(5, '', { cookie: r.cookie }),
          noneChunk({ cookie: r.cookie, flags: DONE }),
        ]),
      OFFSET,
      /: EIO$/,
    ],
    [
      'with an error of a kind that is not known',
      (r) => chunk(0x8f00, Buffer.concat([u32(5), Buffer.alloc(20)]), { cookie: r.cookie, flags: DONE }),
      OFFSET,
      /: EIO$/,
    ],
  ];
  for (const [what, answer, offset, reason] of errors)
    it(`answers one read ${what}, and the next one normally`, () => {
      let isFirst = true;
      const once = (request: NbdRequest) => {
        const answered = isFirst ? answer(request) : answerTruly(request);
        isFirst = false;
        return answered;
      };
      return withNbdFake(temp('nbd.sock'), { answer: once }, async (source) => {
        await assert.rejects(source.read(Buffer.alloc(LENGTH), OFFSET, NEVER), failedAt(offset, reason));
        const buffer = Buffer.alloc(LENGTH);
        await source.read(buffer, OFFSET, NEVER);
        assert.ok(buffer.equals(TRUTH.subarray(OFFSET, OFFSET + LENGTH)));
      });
    });

  const statusLies: [string, (request: NbdRequest) => Uint8Array, number, RegExp][] = [
    ['does not advance', (r) => statusChunk(CONTEXT, [4096, 0, 0, 3], { cookie: r.cookie, flags: DONE }), 4096, /extent of no length/],
    [
      'goes beyond the disk',
      (r) => statusChunk(CONTEXT, [4096, 0, 0xffffffff, 3], { cookie: r.cookie, flags: DONE }),
      4096,
      /of 65536 bytes/,
    ],
    [
      'goes on behind what was asked for',
      (r) => statusChunk(CONTEXT, [r.length, 0, 1, 3], { cookie: r.cookie, flags: DONE }),
      SIZE_BYTES,
      /not asked for/,
    ],
    ['is empty', (r) => statusChunk(CONTEXT, [], { cookie: r.cookie, flags: DONE }), 0, /chunk of type 5 in 4 bytes/],
    ['is no whole number of extents', (r) => statusChunk(CONTEXT, [1], { cookie: r.cookie, flags: DONE }), 0, /chunk of type 5 in 8 bytes/],
    [
      'is of absurd length',
      (r) => chunk(5, Buffer.alloc(0), { cookie: r.cookie, length: 0x7fff_fffc }),
      0,
      /chunk of type 5 in 2147483644/,
    ],
    ['is missing', (r) => noneChunk({ cookie: r.cookie, flags: DONE }), 0, /a reply without the block status at offset 0/],
    [
      'is of another context',
      (r) => statusChunk(CONTEXT + 1, [r.length, 3], { cookie: r.cookie, flags: DONE }),
      0,
      /another metadata context/,
    ],
    [
      'comes twice',
      (r) =>
        Buffer.concat([
          statusChunk(CONTEXT, [r.length, 0], { cookie: r.cookie }),
          statusChunk(CONTEXT, [r.length, 3], { cookie: r.cookie }),
        ]),
      0,
      /two block statuses/,
    ],
    ['is data', (r) => dataChunk(0, Buffer.alloc(10), { cookie: r.cookie, flags: DONE }), 0, /data in place of a block status/],
    ['is a simple success', (r) => simpleReply(0, r.cookie), 0, /simple reply where structured/],
    ['is an error', (r) => errorChunk(22, 'no', { cookie: r.cookie, flags: DONE }), 0, /: EINVAL \(no\)$/],
    ['is a simple error', (r) => simpleReply(5, r.cookie), 0, /: EIO$/],
  ];
  for (const [what, lie, offset, reason] of statusLies)
    it(`has no extents when the block status ${what}`, () =>
      withNbdFake(temp('nbd.sock'), { answer: lie }, (source) => assert.rejects(extentsOf(source), failedAt(offset, reason, ASKING))));
});
