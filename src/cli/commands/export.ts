/** `disklift export -f request.yaml`: one request, no cluster. */

import { type Command, Option } from 'commander';
import type { CommandContext } from '../../wiring/context.ts';
import type { ExportFlags } from '../actions/export-disks.ts';
import { ABANDON_MS, endInTime } from '../end-in-time.ts';

const collect = (value: string, earlier: string[]) => [...earlier, value];

export function addExportCommand(program: Command, context: CommandContext): void {
  program
    .command('export')
    .description('run one DiskExport manifest to its end, without a cluster; its status is printed as YAML')
    .requiredOption('-f, --file <file>', 'the manifest, with the Secrets and ConfigMaps that it refers to; - for standard input')
    .option('--volume <claim=path>', 'where a claim is on this machine: a directory or a block device; may be repeated', collect, [])
    .addOption(
      new Option('--progress <how>', 'auto: bars when standard error is a terminal; json: one line of JSON a second')
        .choices(['auto', 'json', 'none'])
        .default('auto'),
    )
    .action((flags: ExportFlags) =>
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
