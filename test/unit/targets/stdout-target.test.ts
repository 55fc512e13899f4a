/** Behaviour of the kernel that no real kernel shows on demand. The bytes go through a real FIFO or file. */

import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { systemClock } from '../../../src/common/clock.ts';
import { DiskliftError } from '../../../src/common/errors.ts';
import { type Libc, loadLibc } from '../../../src/native/libc.ts';
import type { TransferContext } from '../../../src/targets/contract.ts';
import { createStdoutTarget } from '../../../src/targets/stdout/stdout-target.ts';
import { NEVER, openImage } from '../../helpers/image-in-process.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { transferContext } from '../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;

type Move = Libc['splice'];

const REFUSALS: [string, (real: Move, call: number, parameters: Parameters<Move>) => ReturnType<Move>][] = [
  ['refuses every move', async () => ({ value: -1, errno: 'EINVAL' })],
  ['refuses the third move', (real, call, parameters) => (call === 3 ? Promise.resolve({ value: -1, errno: 'EIO' }) : real(...parameters))],
  ['says that the file has ended', (real, call, parameters) => (call === 2 ? Promise.resolve({ value: 0 }) : real(...parameters))],
  ['is interrupted', (real, call, parameters) => (call % 2 === 1 ? Promise.resolve({ value: -1, errno: 'EINTR' }) : real(...parameters))],
  [
    'moves a single byte at first',
    (real, call, [fdIn, offset, fdOut, length, flags]) => real(fdIn, offset, fdOut, call === 1 ? 1 : length, flags),
  ],
];

describe('stdout target', () => {
  const temp = useTempDir();

  async function openDiskImage() {
    const parts = [0, 8, 16].map((at) => ({ offsetBytes: at * MIB, lengthBytes: 5 * MIB, content: 'random' as const }));
    return openImage(await createDisk(temp('disk.img'), 32 * MIB, parts));
  }

  /** Sends the image of the disk and gives what arrived. */
  async function send(kind: 'pipe' | 'file', changeLibc: (libc: Libc) => Libc, context: Partial<TransferContext> = {}) {
    const libc = loadLibc();
    assert.ok(libc, 'koffi is installed for the tests');
    await using opened = await openDiskImage();
    const expected = Buffer.alloc(opened.image.sizeBytes);
    await opened.image.read(expected, 0, NEVER);
    let reader: Promise<unknown> = Promise.resolve();
    if (kind === 'pipe') {
      await runCommand('mkfifo', [temp('fifo')]);
      reader = runCommand('sh', ['-c', `cat '${temp('fifo')}' > '${temp('out')}'`]);
    }
    const fd = openSync(kind === 'pipe' ? temp('fifo') : temp('out'), 'w');
    let failure: unknown;
    try {
      const receipt = await createStdoutTarget({ fd, libc: changeLibc(libc), clock: systemClock }).send(
        opened.image,
        transferContext(context),
      );
      assert.deepEqual(receipt, { location: 'stdout', sizeBytes: expected.length, proof: 'close' });
    } catch (error) {
      failure = error;
      closeSync(fd);
    }
    await reader;
    return { expected, received: await readFile(temp('out')), failure };
  }

  for (const kind of ['pipe', 'file'] as const)
    for (const [what, refuse] of REFUSALS) {
      it(`sends the right bytes to a ${kind} when the kernel ${what}`, async () => {
        let calls = 0;
        const { expected, received, failure } = await send(kind, (libc) => ({
          ...libc,
          splice: (...parameters) => refuse(libc.splice, ++calls, parameters),
          sendfile: (fdOut, fdIn, offset, length) =>
            refuse((_in, offsetIn, _out, count) => libc.sendfile(fdOut, fdIn, offsetIn, count), ++calls, [fdIn, offset, fdOut, length, 0]),
        }));
        assert.equal(failure, undefined);
        assert.ok(calls > 0, 'the kernel was asked');
        assert.ok(received.equals(expected));
      });
    }

  it('reports progress that only grows and ends at the size', async () => {
    const sent: number[] = [];
    const { expected } = await send('pipe', (libc) => libc, { progress: (bytes) => sent.push(bytes) });
    assert.ok(sent.every((bytes, index) => index === 0 || bytes >= (sent[index - 1] as number)));
    assert.equal(sent.at(-1), expected.length);
  });

  for (const kind of ['pipe', 'file'] as const) {
    it(`holds the tail back from a ${kind} when the seal is broken`, async () => {
      const broken = new DiskliftError('SourceChanged', 'changed');
      const { expected, received, failure } = await send(kind, (libc) => libc, { seal: () => Promise.reject(broken) });
      assert.equal(failure, broken);
      assert.ok(received.length > 0 && received.length <= expected.length - 65_536);
      assert.ok(received.equals(expected.subarray(0, received.length)));
    });

    it(`leaves a move that hangs behind when it is cancelled (${kind})`, async () => {
      const controller = new AbortController();
      const hang = () => new Promise<never>(() => setTimeout(() => controller.abort(), 50));
      const startMs = performance.now();
      const { failure } = await send(kind, (libc) => ({ ...libc, splice: hang, sendfile: hang }), { signal: controller.signal });
      assert.ok(failure instanceof DiskliftError && failure.code === 'Cancelled');
      assert.ok(performance.now() - startMs < 2000);
    });
  }
});
