import assert from 'node:assert/strict';
import { type Agreement, negotiate } from '../../../../src/sources/nbd/negotiation.ts';
import { blockSizeInfo, exportInfo, GREETING, optionReply, u16, u32, u64 } from '../../../helpers/nbd-replies.ts';

const MIB = 1024 * 1024;
const ACK = 1;
const INFO = 3;
const CONTEXT = 4;
const UNSUPPORTED = 0x8000_0001;

const allocation = (number: number) => Buffer.concat([u32(number), Buffer.from('base:allocation')]);

/**
 * Handshakes with a server that says `said`, whatever it is asked.
 * @returns what was agreed, and what the client said
 */
function shake(...said: Uint8Array[]): { agreement: Agreement; sent: Buffer } {
  return shakeFor(undefined, said);
}

function shakeFor(bitmap: string | undefined, said: readonly Uint8Array[]): { agreement: Agreement; sent: Buffer } {
  const bytes = Buffer.concat(said);
  const sent: Buffer[] = [];
  const conversation = negotiate('disk', bitmap);
  let received = Buffer.alloc(0);
  let at = 0;
  for (;;) {
    const step = conversation.next(received);
    if (step.done === true) {
      assert.equal(at, bytes.length, 'all was heard');
      return { agreement: step.value, sent: Buffer.concat(sent) };
    }
    if ('send' in step.value) sent.push(step.value.send);
    else {
      received = bytes.subarray(at, at + step.value.receiveBytes);
      assert.equal(received.length, step.value.receiveBytes, 'the client waits for more than was said');
      at += received.length;
    }
  }
}

const STRUCTURED = optionReply(8, ACK);
const CONTEXT_SET = Buffer.concat([optionReply(10, CONTEXT, allocation(5)), optionReply(10, ACK)]);
const BEFORE_GO = Buffer.concat([GREETING, STRUCTURED, CONTEXT_SET]);

describe('the NBD handshake', () => {
  it('agrees on structured replies, base:allocation and the sizes of blocks', () => {
    const go = [optionReply(7, INFO, exportInfo(8 * MIB)), optionReply(7, INFO, blockSizeInfo(512, 4096, 32 * MIB)), optionReply(7, ACK)];
    const { agreement, sent } = shake(BEFORE_GO, ...go);
    assert.deepEqual(agreement, {
      structured: true,
      contexts: { allocation: 5 },
      sizeBytes: 8 * MIB,
      blockSizeBytes: 512,
      maxReadBytes: 32 * MIB,
    });
    const option = (number: number, ...data: Uint8Array[]) => {
      const body = Buffer.concat(data);
      return Buffer.concat([Buffer.from('IHAVEOPT'), u32(number, body.length), body]);
    };
    const name = Buffer.concat([u32(4), Buffer.from('disk')]);
    const expected = [
      u32(3),
      option(8),
      option(10, name, u32(1), u32(15), Buffer.from('base:allocation')),
      option(7, name, u16(1), u16(3)),
    ];
    assert.deepEqual(sent, Buffer.concat(expected));
  });

  describe('for a dirty bitmap', () => {
    const context = (number: number, name: string) => optionReply(10, CONTEXT, Buffer.concat([u32(number), Buffer.from(name)]));
    const GO = [optionReply(7, INFO, exportInfo(700)), optionReply(7, ACK)];
    const [ALLOCATION, BITMAP, DEPTH] = [
      context(5, 'base:allocation'),
      context(2, 'qemu:dirty-bitmap:b'),
      context(0, 'qemu:allocation-depth'),
    ];

    it('asks for it, for base:allocation and for the depth of the chain, and takes their numbers in any order', () => {
      const { agreement, sent } = shakeFor('b', [GREETING, STRUCTURED, DEPTH, BITMAP, ALLOCATION, optionReply(10, ACK), ...GO]);
      assert.deepEqual(agreement.contexts, { allocation: 5, dirty: 2, depth: 0 });
      const query = (name: string) => [u32(name.length), Buffer.from(name)];
      const queries = ['base:allocation', 'qemu:dirty-bitmap:b', 'qemu:allocation-depth'].flatMap(query);
      assert.ok(sent.includes(Buffer.concat([u32(4), Buffer.from('disk'), u32(3), ...queries])));
    });

    it('does without base:allocation and the depth', () => {
      const { agreement } = shakeFor('b', [GREETING, STRUCTURED, BITMAP, optionReply(10, ACK), ...GO]);
      assert.deepEqual(agreement.contexts, { dirty: 2 });
    });

    const listed = (name: string) => optionReply(9, CONTEXT, Buffer.concat([u32(0), Buffer.from(name)]));
    const refused: [string, Uint8Array[], string, RegExp][] = [
      [
        'has others, which it lists',
        [ALLOCATION, optionReply(10, ACK), listed('qemu:dirty-bitmap:a'), listed('qemu:dirty-bitmap:c\n'), optionReply(9, ACK), ...GO],
        'SourceNotFound',
        /dirty bitmap b with this export, and only a, c; export the disk with it/,
      ],
      [
        'lists none',
        [optionReply(10, ACK), optionReply(9, ACK), ...GO],
        'SourceNotFound',
        /dirty bitmap b with this export, and no bitmap;/,
      ],
      ['lists nothing', [optionReply(10, ACK), optionReply(9, UNSUPPORTED), ...GO], 'SourceNotFound', /and no bitmap;/],
      [
        'has no such export',
        [optionReply(10, 0x8000_0006), optionReply(9, 0x8000_0006), optionReply(7, 0x8000_0006)],
        'SourceNotFound',
        /no such export$/,
      ],
      [
        'gives two contexts one number',
        [context(5, 'qemu:dirty-bitmap:b'), ALLOCATION],
        'SourceReadError',
        /two metadata contexts under one number/,
      ],
    ];
    for (const [what, said, code, message] of refused)
      it(`refuses a server that ${what}`, () => {
        assert.throws(() => shakeFor('b', [GREETING, STRUCTURED, ...said]), { code, message });
      });
  });

  const without: [string, Uint8Array[], Partial<Agreement>][] = [
    [
      'structured replies',
      [GREETING, optionReply(8, UNSUPPORTED), optionReply(7, INFO, exportInfo(700)), optionReply(7, ACK)],
      { structured: false, contexts: {} },
    ],
    [
      'metadata contexts',
      [GREETING, STRUCTURED, optionReply(10, UNSUPPORTED), optionReply(7, INFO, exportInfo(700)), optionReply(7, ACK)],
      { structured: true, contexts: {} },
    ],
    [
      'base:allocation',
      [GREETING, STRUCTURED, optionReply(10, ACK), optionReply(7, INFO, exportInfo(700)), optionReply(7, ACK)],
      { structured: true, contexts: {} },
    ],
    ['NBD_OPT_GO', [BEFORE_GO, optionReply(7, UNSUPPORTED), u64(700), u16(3)], { structured: true, contexts: { allocation: 5 } }],
    [
      'NBD_OPT_GO and NO_ZEROES',
      [Buffer.from('NBDMAGICIHAVEOPT'), u16(1), STRUCTURED, CONTEXT_SET, optionReply(7, UNSUPPORTED), u64(700), u16(3), Buffer.alloc(124)],
      { structured: true, contexts: { allocation: 5 } },
    ],
  ];
  for (const [what, said, expected] of without)
    it(`does without ${what}`, () => {
      const { agreement } = shake(...said);
      assert.deepEqual(agreement, { ...expected, sizeBytes: 700, blockSizeBytes: 512, maxReadBytes: 32 * MIB });
    });

  it('reads no more at once than the server takes, in whole blocks', () => {
    const { agreement } = shake(
      BEFORE_GO,
      optionReply(7, INFO, exportInfo(8192)),
      optionReply(7, INFO, blockSizeInfo(4096, 4096, 10_000)),
      optionReply(7, ACK),
    );
    assert.equal(agreement.maxReadBytes, 8192);
    const unlimited = shake(
      BEFORE_GO,
      optionReply(7, INFO, exportInfo(8192)),
      optionReply(7, INFO, blockSizeInfo(1, 4096, 0xffffffff)),
      optionReply(7, ACK),
    );
    assert.equal(unlimited.agreement.maxReadBytes, 32 * MIB);
  });

  const go = (...infos: Uint8Array[]) => [BEFORE_GO, ...infos.map((info) => optionReply(7, INFO, info)), optionReply(7, ACK)];
  const refused: [string, Uint8Array[], string, RegExp][] = [
    ['is none at all', [Buffer.from('HTTP/1.1 400 Bad Request')], 'SourceReadError', /not an NBD server/],
    ['speaks the old style', [Buffer.from('NBDMAGIC'), u64(0x00420281861253n)], 'SourceReadError', /fixed newstyle/],
    ['speaks newstyle that is not fixed', [Buffer.from('NBDMAGICIHAVEOPT'), u16(2)], 'SourceReadError', /fixed newstyle/],
    [
      'has no such export',
      [BEFORE_GO, optionReply(7, 0x8000_0006, Buffer.from("no\n'disk'"))],
      'SourceNotFound',
      /no such export \(no 'disk'\)$/,
    ],
    ['denies it', [BEFORE_GO, optionReply(7, 0x8000_0002)], 'SourcePermissionDenied', /denies it$/],
    ['wants TLS', [GREETING, optionReply(8, 0x8000_0005)], 'SourcePermissionDenied', /wants TLS/],
    ['wants TLS late', [BEFORE_GO, optionReply(7, 0x8000_0005)], 'SourcePermissionDenied', /wants TLS/],
    ['shuts down', [BEFORE_GO, optionReply(7, 0x8000_0007, Buffer.from('x'.repeat(5000)))], 'SourceReadError', /error 7 \(x{200}\.\.\.\)$/],
    ['has a disk that is too large', go(exportInfo(2n ** 53n)), 'ImageTooLarge', /9007199254740992 bytes/],
    ['answers with the wrong magic number', [GREETING, Buffer.alloc(20, 1)], 'SourceReadError', /without its magic/],
    ['answers another option', [GREETING, optionReply(7, ACK)], 'SourceReadError', /option 7 instead of 8/],
    ['answers at absurd length', [GREETING, u64(0x3e889045565a9n), u32(8, 1, 0xffffffff)], 'SourceReadError', /4294967295 bytes/],
    ['gives what was not asked for', [GREETING, optionReply(8, INFO)], 'SourceReadError', /reply 3 to option 8/],
    [
      'gives another context',
      [GREETING, STRUCTURED, optionReply(10, CONTEXT, Buffer.concat([u32(1), Buffer.from('base:allocatioN')]))],
      'SourceReadError',
      /not asked for/,
    ],
    ['gives a context of no length', [GREETING, STRUCTURED, optionReply(10, CONTEXT)], 'SourceReadError', /not asked for/],
    [
      'gives a context twice',
      [GREETING, STRUCTURED, optionReply(10, CONTEXT, allocation(1)), optionReply(10, CONTEXT, allocation(2))],
      'SourceReadError',
      /two numbers/,
    ],
    ['tells no size', go(), 'SourceReadError', /without a size/],
    ['tells a size in too few bytes', go(exportInfo(700).subarray(0, 11)), 'SourceReadError', /information 0 in 11 bytes/],
    ['has no flags', go(exportInfo(700, 0)), 'SourceReadError', /without flags/],
    ['has blocks of no size', go(exportInfo(700), blockSizeInfo(0, 4096, 4096)), 'SourceReadError', /blocks of 0 to 4096/],
    ['has blocks of an odd size', go(exportInfo(700), blockSizeInfo(7, 4096, 4096)), 'SourceReadError', /blocks of 7/],
    ['has blocks of absurd size', go(exportInfo(131_072), blockSizeInfo(131_072, 131_072, 131_072)), 'SourceReadError', /blocks of 131072/],
    [
      'has largest blocks below the smallest',
      go(exportInfo(1024), blockSizeInfo(512, 512, 511)),
      'SourceReadError',
      /blocks of 512 to 511/,
    ],
    [
      'has a size that is no multiple of its blocks',
      go(exportInfo(700), blockSizeInfo(512, 4096, 4096)),
      'SourceReadError',
      /700 bytes, which is no multiple/,
    ],
  ];
  for (const [what, said, code, message] of refused)
    it(`ends when the server ${what}`, () => {
      assert.throws(
        () => shake(...said),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, code, error.message);
          assert.match(error.message, message);
          assert.ok(!error.message.includes('\n'));
          return true;
        },
      );
    });
});
