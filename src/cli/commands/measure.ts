/** `disklift measure IMAGE`: how large the image will be, to the byte, before anything is sent. */

import { type Command, Option } from 'commander';
import type { CommandContext } from '../../wiring/context.ts';
import type { MeasureFlags } from '../actions/measure-image.ts';
import { endInTime } from '../end-in-time.ts';
import { addImageOptions } from '../image-options.ts';

export function addMeasureCommand(program: Command, context: CommandContext): void {
  addImageOptions(program.command('measure'))
    .description('print the exact size that the image of a disk will have')
    .addOption(new Option('--output <how>', 'human or json').choices(['human', 'json']).default('human'))
    .action((image: string, flags: MeasureFlags) =>
      endInTime(context, async () => {
        const { measureImage } = await import('../actions/measure-image.ts');
        await measureImage(image, flags, context);
      }),
    );
}
