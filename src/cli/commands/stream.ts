/** `disklift stream IMAGE > out.qcow2` */

import { type Command, Option } from 'commander';
import type { CommandContext } from '../../wiring/context.ts';
import type { StreamFlags } from '../actions/stream-image.ts';
import { endInTime } from '../end.ts';
import { addImageOptions, addProgressOption } from '../options.ts';

export function addStreamCommand(program: Command, context: CommandContext): void {
  const command = addImageOptions(program.command('stream'))
    .description('write a disk to standard output as a qcow2 image')
    .addOption(
      new Option(
        '--verify <when>',
        'read all that was scanned once more and compare it; auto: of block devices, NBD and file systems whose times miss writes (FUSE, SMB)',
      )
        .choices(['auto', 'always', 'never'])
        .default('auto'),
    )
    .addOption(
      new Option(
        '--in-use <what>',
        'auto: refuse a disk that is known to be open for writing, and keep QEMU from it; fail: also where nobody can tell; allow: take no lock',
      )
        .choices(['auto', 'fail', 'allow'])
        .default('auto'),
    )
    .option('--write-blocks <file>', 'write the block hashes of the disk, with which the next stream finds what has changed');
  addProgressOption(command).action((image: string, flags: StreamFlags) =>
    endInTime(context, async () => {
      const { streamImage } = await import('../actions/stream-image.ts');
      await streamImage(image, flags, context);
    }),
  );
}
