/** Files on tmpfs, which are filled in huge pages: the real kernel, and what it does only when memory is short. */

import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import type { Clock } from '../../../src/common/clock.ts';
import { DiskliftError } from '../../../src/common/errors.ts';
import { type Libc, loadLibc } from '../../../src/native/libc.ts';
import type { TransferContext } from '../../../src/targets/contract.ts';
import { createStdoutTarget } from '../../../src/targets/stdout/stdout-target.ts';
import { diskliftLine } from '../../helpers/disklift.ts';
import { NEVER, openImage } from '../../helpers/image-in-process.ts';
import { createManualClock } from '../../helpers/manual-clock.ts';
import { runShell } from '../../helpers/run-command.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { transferContext } from '../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;
const TMPFS = '/dev/shm';
const HUGE_PAGE_BYTES = 2 * MIB;
const MADV_POPULATE_WRITE = 23;
const MADV_COLLAPSE = 25;

/** Three long runs; the middle one does not begin at a huge page's multiple in the image. */
const DISK_SIZE_BYTES = 128 * MIB;
const PARTS = [
  { offsetBytes: 0, lengthBytes: 37 * MIB, content: 'random' as const },
  { offsetBytes: 40 * MIB, lengthBytes: 30 * MIB + 65_536, content: 'random' as const },
  { offsetBytes: 80 * MIB, lengthBytes: 20 * MIB, content: 'random' as const },
];

function shmemHugePagesBytes(): number {
  const [, kib = '0'] = /^ShmemHugePages: +(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? [];
  return Number(kib) * 1024;
}

interface SendOptions {
  changeLibc?: (libc: Libc) => Libc;
  context?: Partial<TransferContext>;
  /** One that stands still when left out: the machine may be slow. */
  clock?: Clock;
  /** How the file is opened, and what it holds before. */
  flags?: string;
  before?: Buffer;
  /** Written to the descriptor first. */
  inFront?: Buffer;
}

describe('stdout target, to a file on tmpfs', () => {
  const temp = useTempDir();
  const tmpfs = useTempDir(TMPFS);
  let disk: string;

  beforeEach(async () => {
    disk = await createDisk(temp('disk.img'), DISK_SIZE_BYTES, PARTS);
  });

  /** Sends the disk's image, and gives what the file holds then. */
  async function send({ changeLibc, context, clock = createManualClock(), flags = 'w', before, inFront }: SendOptions = {}) {
    const libc = loadLibc();
    assert.ok(libc, 'koffi is installed for the tests');
    await using opened = await openImage(disk);
    const expected = Buffer.alloc(opened.image.sizeBytes);
    await opened.image.read(expected, 0, NEVER);
    if (before !== undefined) writeFileSync(tmpfs('out'), before);
    const fd = openSync(tmpfs('out'), flags);
    if (inFront !== undefined) writeSync(fd, inFront);
    let failure: unknown;
    try {
      const target = createStdoutTarget({ fd, libc: changeLibc?.(libc) ?? libc, clock });
      await target.send(opened.image, transferContext(context ?? {}));
    } catch (error) {
      failure = error;
      closeSync(fd);
    }
    return { expected, received: readFileSync(tmpfs('out')), failure };
  }

  /** The C library, which counts what is asked for by madvise, and answers that as `answer` says. */
  function withMadvise(counts: Map<number, number>, answer: (advice: number, call: number) => string | undefined) {
    return (libc: Libc): Libc => ({
      ...libc,
      madvise: async (address, length, advice) => {
        const call = (counts.get(advice) ?? 0) + 1;
        counts.set(advice, call);
        const errno = answer(advice, call);
        return errno === undefined ? libc.madvise(address, length, advice) : { value: -1, errno };
      },
    });
  }

  it('fills it in huge pages', async () => {
    const usedBefore = shmemHugePagesBytes();
    const counts = new Map<number, number>();
    const { expected, received, failure } = await send({ changeLibc: withMadvise(counts, () => undefined) });
    assert.equal(failure, undefined);
    assert.ok(received.equals(expected));
    // Bytes before the first huge page, bytes behind a run's last huge page, and the tail are not in one.
    assert.ok((counts.get(MADV_COLLAPSE) ?? 0) >= 9, `${counts.get(MADV_COLLAPSE)} times asked for huge pages`);
    assert.ok(shmemHugePagesBytes() - usedBefore >= 60 * MIB, `${(shmemHugePagesBytes() - usedBefore) / MIB} MiB in huge pages`);
  });

  const FAULTS: [string, (advice: number, call: number) => string | undefined][] = [
    ['has no huge pages at all', (advice) => (advice === MADV_COLLAPSE ? 'ENOMEM' : undefined)],
    ['has no huge page after the first', (advice, call) => (advice === MADV_COLLAPSE && call > 1 ? 'ENOMEM' : undefined)],
    ['has none for one window alone', (advice, call) => (advice === MADV_COLLAPSE && call === 3 ? 'EAGAIN' : undefined)],
    ['does not know what populating is', (advice) => (advice === MADV_POPULATE_WRITE ? 'EINVAL' : undefined)],
    ['has no memory left for a page', (advice, call) => (advice === MADV_POPULATE_WRITE && call > 6 ? 'EFAULT' : undefined)],
  ];

  for (const [what, answer] of FAULTS)
    it(`sends the right bytes when the kernel ${what}`, async () => {
      const counts = new Map<number, number>();
      const { expected, received, failure } = await send({ changeLibc: withMadvise(counts, answer) });
      assert.equal(failure, undefined);
      assert.ok(received.equals(expected));
      assert.ok(
        [...counts.values()].every((calls) => calls < 20),
        'it goes on asking',
      );
    });

  for (const [what, result] of [
    ['fails', { value: -1, errno: 'EIO' }],
    ['ends early', { value: 0 }],
  ] as const)
    for (const call of [1, 2, 3, 5])
      it(`sends the right bytes when read ${call} through a window ${what}`, async () => {
        let calls = 0;
        const { expected, received, failure } = await send({
          changeLibc: (libc) => ({
            ...libc,
            pread: (...parameters) => {
              calls += 1;
              return calls === call ? Promise.resolve(result) : libc.pread(...parameters);
            },
          }),
        });
        assert.equal(failure, undefined);
        assert.ok(received.equals(expected));
      });

  it('continues after short and interrupted reads', async () => {
    let calls = 0;
    const { expected, received, failure } = await send({
      changeLibc: (libc) => ({
        ...libc,
        pread: (fd, address, length, offset) => {
          calls += 1;
          if (calls % 3 === 0) return Promise.resolve({ value: -1, errno: 'EINTR' });
          return libc.pread(fd, address, Math.min(length, 3 * MIB + 5), offset);
        },
      }),
    });
    assert.equal(failure, undefined);
    assert.ok(received.equals(expected));
  });

  it('gives up huge pages that come slowly', async () => {
    const clock = createManualClock();
    const counts = new Map<number, number>();
    const { expected, received, failure } = await send({
      clock,
      changeLibc: withMadvise(counts, (advice) => {
        if (advice === MADV_COLLAPSE) clock.advance(60);
        return undefined;
      }),
    });
    assert.equal(failure, undefined);
    assert.ok(received.equals(expected));
    const calls = counts.get(MADV_COLLAPSE) ?? 0;
    // 16 MiB are two windows, and two others may be under way by then.
    assert.ok(calls >= 2 && calls <= 4, `asked ${calls} times`);
  });

  it('writes behind what the descriptor has written, and leaves what the file holds behind it', async () => {
    const inFront = Buffer.from('12345');
    const before = Buffer.alloc(160 * MIB, 'x');
    const { expected, received, failure } = await send({ flags: 'r+', before, inFront });
    assert.equal(failure, undefined);
    assert.equal(received.length, before.length);
    assert.ok(received.subarray(5, 5 + expected.length).equals(expected));
    assert.ok(received.subarray(5 + expected.length).equals(before.subarray(5 + expected.length)));
  });

  it('appends', async () => {
    const before = Buffer.alloc(HUGE_PAGE_BYTES, 'x');
    const { expected, received } = await send({ flags: 'a', before });
    assert.ok(received.equals(Buffer.concat([before, expected])));
  });

  it('leaves only right bytes behind when it is cancelled', async () => {
    const controller = new AbortController();
    let calls = 0;
    const startMs = performance.now();
    const { expected, received, failure } = await send({
      context: { signal: controller.signal },
      changeLibc: (libc) => ({
        ...libc,
        pread: (...parameters) => {
          calls += 1;
          if (calls !== 4) return libc.pread(...parameters);
          setTimeout(() => controller.abort(), 50);
          return new Promise<never>(() => {});
        },
      }),
    });
    assert.ok(failure instanceof DiskliftError && failure.code === 'Cancelled');
    assert.ok(performance.now() - startMs < 2000);
    assert.ok(received.length > 8 * MIB && received.length < expected.length - HUGE_PAGE_BYTES, `${received.length} bytes`);
    assert.ok(received.equals(expected.subarray(0, received.length)));
  });

  it('reports in one line that the file system is full', async () => {
    const inside = [
      `mount -t tmpfs -o size=60m tmpfs '${temp('.')}'`,
      `cd '${temp('.')}'`,
      `{ ${diskliftLine(['stream', tmpfs('disk.img')])} > out.qcow2; code=$?; stat -c %s out.qcow2; exit $code; }`,
    ].join(' && ');
    await createDisk(tmpfs('disk.img'), DISK_SIZE_BYTES, PARTS);
    const { code, stdout, stderr } = await runShell(`unshare --user --map-root-user --mount sh -c "${inside.replaceAll('$', '\\$')}"`);
    assert.match(stderr, /^disklift: standard output: cannot write at byte \d+: ENOSPC\n$/);
    assert.equal(code, 1);
    assert.ok(Number(stdout.toString()) <= 60 * MIB);
  });

  it('holds the last bytes back until the source is known to be unchanged', async () => {
    const sizes: number[] = [];
    const { expected } = await send({
      context: {
        seal: async () => {
          sizes.push(statSync(tmpfs('out')).size);
          return {};
        },
      },
    });
    assert.deepEqual(sizes, [expected.length - HUGE_PAGE_BYTES]);
    assert.equal(statSync(tmpfs('out')).size, expected.length);
  });
});
