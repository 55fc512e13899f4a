/** `disklift export -f request.yaml`: one request, no cluster. */

import type { Command } from 'commander';
import type { CommandContext } from '../../wiring/context.ts';
import type { ExportFlags } from '../actions/export-disks.ts';
import { ABANDON_MS, endInTime } from '../end.ts';
import { addProgressOption, collect } from '../options.ts';

export function addExportCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('export')
    .description('run one DiskExport manifest to its end, without a cluster; its status is printed as YAML')
    .requiredOption('-f, --file <file>', 'the manifest, with the Secrets and ConfigMaps that it refers to; - for standard input')
    .option('--volume <claim=path>', 'where a claim is on this machine: a directory or a block device; may be repeated', collect, []);
  addProgressOption(command).action((flags: ExportFlags) =>
    endInTime(
      context,
      async () => {
        const { exportDisks } = await import('../actions/export-disks.ts');
        await exportDisks(flags, context);
      },
      ABANDON_MS,
    ),
  );
}
