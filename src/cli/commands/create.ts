/** `disklift create -f request.yaml`: makes a DiskExport in a cluster, as the CronJob of the chart does every night. */

import { type Command, Option } from 'commander';
import type { CommandContext } from '../../wiring/context.ts';
import type { CreateFlags } from '../actions/create-export.ts';
import { endInTime } from '../end.ts';

export function addCreateCommand(program: Command, context: CommandContext): void {
  program
    .command('create')
    .description('create the DiskExport of a manifest in a cluster; a name that it generates ends in the time')
    .requiredOption('-f, --file <file>', 'the manifest; - for standard input. Of its objects only the DiskExport is created')
    .option('--namespace <name>', "where; the manifest's namespace, or the pod's, when left out")
    .addOption(
      new Option('--job <name>', 'name of the Job that will run it: the DiskExport takes this name, and goes away with the Job').env(
        'DISKLIFT_JOB',
      ),
    )
    .addOption(new Option('--job-uid <uid>', 'UID of that Job').env('DISKLIFT_JOB_UID'))
    .option('--kubeconfig <file>', "where the API server is; the pod's ServiceAccount, when left out")
    .action((flags: CreateFlags) =>
      endInTime(context, async () => {
        const { createExport } = await import('../actions/create-export.ts');
        await createExport(flags, context);
      }),
    );
}
