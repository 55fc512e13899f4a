/** `disklift stop-sidecars`: what the chart runs before a release is taken away. */

import type { Command } from 'commander';
import type { CommandContext } from '../../wiring/context.ts';
import type { StopFlags } from '../actions/stop-pods.ts';
import { endInTime } from '../end-in-time.ts';

const collect = (each: string, earlier: string[]) => [...earlier, each];

export function addStopSidecarsCommand(program: Command, context: CommandContext): void {
  program
    .command('stop-sidecars', { hidden: true })
    .description('stop the pods of a release while their Role holds, and wait until they have ended; the chart uses it')
    .requiredOption('--namespace <name>', 'where they are')
    .requiredOption('--selector <labels>', 'selects their pods, as kubectl takes it')
    .option('--deployment <name>', 'to be scaled to none; repeatable', collect, [])
    .option('--job <name>', 'to be suspended; repeatable', collect, [])
    .option('--cronjob <name>', 'to be suspended, with the Jobs that it has made; repeatable', collect, [])
    .option('--kubeconfig <file>', "where the API server is; the pod's ServiceAccount, when left out")
    .action((flags: StopFlags) =>
      endInTime(context, async () => {
        const { stopPods } = await import('../actions/stop-pods.ts');
        await stopPods(flags, context);
      }),
    );
}
