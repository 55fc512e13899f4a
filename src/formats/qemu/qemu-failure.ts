/** What it means that QEMU has not come to serve a disk. Pure. */

import { DiskliftError } from '../../common/errors.ts';
import type { Ending } from './qemu-child.ts';
import { NOT_INSTALLED } from './qemu-script.ts';

/** What QEMU says of storage and of this machine; everything else it says of the image. */
const NOT_THE_IMAGE = /input\/output error|cannot allocate memory|too many open files|stale file handle|no locks available/i;

/** A VHDX that was not closed. Its tables are those of before, and whoever may not write cannot make others. */
const VHDX_LOG = 'contains a log that needs to be replayed';

const LONGEST_REASON_LENGTH = 300;

/** @param name of the disk */
export function qemuFailure(name: string, format: string, { exitCode, words }: Ending): DiskliftError {
  if (exitCode === undefined || exitCode === NOT_INSTALLED)
    return new DiskliftError(
      'FormatUnsupported',
      `${name}: disks of format ${format} are read by QEMU's qemu-storage-daemon or qemu-nbd, and neither is installed; the image disklift-formats has one`,
    );
  if (words.includes(VHDX_LOG))
    return new DiskliftError('FormatUnsupported', `${name}: has a log that is not in its tables yet; qemu-img check -r all puts it there`);
  const reason = reasonIn(words);
  if (exitCode > 128 || reason === undefined || NOT_THE_IMAGE.test(reason))
    return new DiskliftError('SourceReadError', `${name}: QEMU ended when it opened it (${reason ?? `exit code ${exitCode}`})`);
  return new DiskliftError('FormatUnsupported', `${name}: QEMU cannot open it as ${format}: ${reason}`);
}

/** The last line that its program has said of itself, without the node graph that it repeats there. */
function reasonIn(words: string): string | undefined {
  const line = words
    .split('\n')
    .findLast((text) => text.startsWith('qemu-'))
    ?.replace(/^qemu-[a-z-]+: /, '')
    .replace(/^.*[}]'?: /, '');
  return line === undefined || line === '' ? undefined : line.slice(0, LONGEST_REASON_LENGTH);
}
