import assert from 'node:assert/strict';
import type { ErrorCode } from '../../../../src/common/errors.ts';
import { qemuFailure } from '../../../../src/formats/qemu/qemu-child.ts';

const OPTION = '{"driver": "vmdk", "file": {"filename": "/proc/self/fd/5"}}';

describe('the failure of QEMU to serve a disk', () => {
  const table: [string, number | undefined, string, ErrorCode, RegExp][] = [
    [
      'no shell',
      undefined,
      '',
      'FormatUnsupported',
      /^a: disks of format vmdk .* neither is installed; the image disklift-formats has one$/,
    ],
    ['no program', 127, '', 'FormatUnsupported', /disklift-formats/],
    [
      'an image that the daemon cannot open',
      1,
      `qemu-storage-daemon: --blockdev ${OPTION}: invalid VMDK image descriptor\n`,
      'FormatUnsupported',
      /^a: QEMU cannot open it as vmdk: invalid VMDK image descriptor$/,
    ],
    [
      'an image that qemu-nbd cannot open',
      1,
      `some warning\nqemu-nbd: Failed to blk_new_open 'json:${OPTION}': invalid VMDK image descriptor\n`,
      'FormatUnsupported',
      /^a: QEMU cannot open it as vmdk: invalid VMDK image descriptor$/,
    ],
    [
      'storage that fails',
      1,
      `qemu-nbd: Failed to blk_new_open 'json:${OPTION}': Could not read image: Input/output error\n`,
      'SourceReadError',
      /\(Could not read image: Input\/output error\)$/,
    ],
    ['a program that was killed', 137, '', 'SourceReadError', /^a: QEMU ended when it opened it \(exit code 137\)$/],
    ['a program without a word', 1, '', 'SourceReadError', /\(exit code 1\)$/],
    ['words without end', 1, `qemu-nbd: ${'x'.repeat(4000)}`, 'FormatUnsupported', /^.{1,400}$/],
  ];
  for (const [name, exitCode, stderr, code, message] of table)
    it(`is told by ${name}`, () => {
      const error = qemuFailure('a', 'vmdk', { exitCode, stderr });
      assert.equal(error.code, code);
      assert.match(error.message, message);
    });
});
