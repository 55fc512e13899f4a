/** `disklift measure IMAGE`: prints the exact size of an image before anything is sent. */

import { type Command, Option } from 'commander';
import type { Layout } from '../../qcow2/write/layout.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { endInTime } from '../end.ts';
import { addImageOptions, baseOf, type ImageFlags, layoutOf, qcow2OptionsOf } from '../options.ts';

interface MeasureFlags extends ImageFlags {
  output: 'human' | 'json';
}

export function addMeasureCommand(program: Command, context: CommandContext): void {
  addImageOptions(program.command('measure'))
    .description('print the exact size that the image of a disk will have')
    .addOption(new Option('--output <how>', 'human or json').choices(['human', 'json']).default('human'))
    .action((image: string, flags: MeasureFlags) => endInTime(context, () => measureImage(image, flags, context)));
}

/** In a function with `using`, TypeScript 6.0.3 keeps the `.ts` of an import, which the built program does not have. */
const loadParts = () => Promise.all([import('../../wiring/stream.ts'), import('../standard-output.ts')]);

async function measureImage(image: string, flags: MeasureFlags, context: CommandContext): Promise<void> {
  const [{ composeImage }, { printOutput, requireOpenStdout }] = await loadParts();
  requireOpenStdout();
  const qcow2 = qcow2OptionsOf(image, flags);
  const { backingFile, ...base } = baseOf(image, flags);
  const { beneath, caFile, zeroDetection } = flags;
  await using prepared = await composeImage(
    { path: image, ...layoutOf(flags), beneath, caFile, qcow2, ...base, zeroDetection, verify: 'never' },
    context,
  );
  const measured = measurementOf(prepared.layout);
  await printOutput(flags.output === 'json' ? `${JSON.stringify(measured)}\n` : humanText(measured), context);
}

function measurementOf({ map, options, virtualSizeBytes, imageSizeBytes }: Layout) {
  const { unchanged = 0, ...clusters } = map.clusters;
  const ofDelta = options.backingFile === undefined ? {} : { unchanged };
  return { virtualSizeBytes, imageSizeBytes, clusters: { ...clusters, ...ofDelta }, extents: map.dataRangeCount };
}

function humanText({ virtualSizeBytes, imageSizeBytes, clusters, extents }: ReturnType<typeof measurementOf>): string {
  const { total, data, zero, hole, unchanged } = clusters;
  const inBase = unchanged === undefined ? '' : `, ${unchanged} unchanged`;
  return [
    `virtual size: ${virtualSizeBytes} bytes`,
    `image size:   ${imageSizeBytes} bytes`,
    `clusters:     ${total} (${data} data in ${extents} extents, ${zero} zero, ${hole} in holes${inBase})`,
    '',
  ].join('\n');
}
