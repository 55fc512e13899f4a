/** `disklift verify IMAGE...`: shows whether images are whole, with their backing files. */

import { type Command, Option } from 'commander';
import { DiskliftError } from '../../common/errors.ts';
import { printable } from '../../common/text.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { endInTime } from '../end.ts';

interface VerifyFlags {
  beneath?: string;
  caFile?: string;
  output: 'human' | 'json';
}

export function addVerifyCommand(program: Command, context: CommandContext): void {
  program
    .command('verify')
    .description('read images back and check them: receipts, SHA-256, all tables, refcounts, backing files')
    .argument('<image...>', 'files, http(s)://HOST/PATH or s3://BUCKET/KEY')
    .option('--beneath <place>', "where backing files may lie, however deep; the image's own directory when left out")
    .option('--ca-file <file>', "https and s3: authorities in PEM that are trusted instead of the system's")
    .addOption(new Option('--output <how>', 'a line an image: human, or an object of JSON').choices(['human', 'json']).default('human'))
    .action((images: string[], flags: VerifyFlags) => endInTime(context, () => verify(images, flags, context)));
}

async function verify(images: readonly string[], { output, ...flags }: VerifyFlags, context: CommandContext): Promise<void> {
  const [{ verifyImages }, { verdictLine }, { printOutput, requireOpenStdout }] = await Promise.all([
    import('../../wiring/verify-images.ts'),
    import('../../wiring/verify-image.ts'),
    import('../standard-output.ts'),
  ]);
  requireOpenStdout();
  let [count, badCount] = [0, 0];
  for await (const verdict of verifyImages(
    images.map((image) => ({ image, ...flags })),
    context,
  )) {
    count += 1;
    if (!verdict.isGood) badCount += 1;
    const line = output === 'json' ? JSON.stringify(verdict) : printable(verdictLine(verdict));
    await printOutput(`${line}\n`, context);
  }
  if (badCount > 0) throw new DiskliftError('ChecksumMismatch', `${badCount} of ${count} images are bad`);
}
