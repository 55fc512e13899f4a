/** What `disklift measure` does. */

import type { Layout } from '../../qcow2/write/layout.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { composeImage } from '../../wiring/stream.ts';
import { type ImageFlags, layoutOf, qcow2OptionsOf } from '../image-options.ts';
import { printOutput, requireOpenStdout } from '../standard-output.ts';

export interface MeasureFlags extends ImageFlags {
  output: 'human' | 'json';
}

export async function measureImage(image: string, flags: MeasureFlags, context: CommandContext): Promise<void> {
  requireOpenStdout();
  const qcow2 = qcow2OptionsOf(image, flags);
  const { beneath, zeroDetection } = flags;
  await using prepared = await composeImage({ path: image, ...layoutOf(flags), beneath, qcow2, zeroDetection, verify: 'never' }, context);
  const measured = measurementOf(prepared.layout);
  await printOutput(flags.output === 'json' ? `${JSON.stringify(measured)}\n` : humanText(measured), context);
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
