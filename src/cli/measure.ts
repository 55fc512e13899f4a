/** `disklift measure IMAGE`: how large the image will be, to the byte, before anything is sent. */

import { type Command, Option } from 'commander';
import type { Layout } from '../qcow2/layout.ts';
import { composeImage } from './compose.ts';
import type { CommandContext } from './context.ts';
import { addImageOptions, type ImageFlags, qcow2OptionsOf } from './image-options.ts';

interface MeasureFlags extends ImageFlags {
  output: 'human' | 'json';
}

export function addMeasureCommand(program: Command, context: CommandContext): void {
  addImageOptions(program.command('measure'))
    .description('print the exact size that the image of a disk will have')
    .addOption(new Option('--output <how>', 'human or json').choices(['human', 'json']).default('human'))
    .action((image: string, flags: MeasureFlags) => measureImage(image, flags, context));
}

async function measureImage(image: string, flags: MeasureFlags, context: CommandContext): Promise<void> {
  const qcow2 = qcow2OptionsOf(image, flags);
  await using prepared = await composeImage({ path: image, qcow2, zeroDetection: flags.zeroDetection, verify: 'never' }, context);
  const measured = measurementOf(prepared.layout);
  process.stdout.write(flags.output === 'json' ? `${JSON.stringify(measured)}\n` : humanText(measured));
}

function measurementOf({ map, virtualSizeBytes, imageSizeBytes }: Layout) {
  return { virtualSizeBytes, imageSizeBytes, clusters: map.clusters, extents: map.dataRangeCount };
}

function humanText({ virtualSizeBytes, imageSizeBytes, clusters, extents }: ReturnType<typeof measurementOf>): string {
  const { total, data, zero, hole } = clusters;
  return [
    `virtual size: ${virtualSizeBytes} bytes`,
    `image size:   ${imageSizeBytes} bytes`,
    `clusters:     ${total} (${data} data in ${extents} extents, ${zero} zero, ${hole} in holes)`,
    '',
  ].join('\n');
}
