/** `disklift stop-controller`: the chart runs it before a release with a controller is uninstalled. */

import type { Command } from 'commander';
import { packageVersion } from '../../config/environment.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { endInTime } from '../end.ts';
import { collect } from '../options.ts';

interface StopFlags {
  namespace: string;
  deployment: string;
  selector: string;
  serves: string[];
  kubeconfig?: string;
}

export function addStopControllerCommand(program: Command, context: CommandContext): void {
  program
    .command('stop-controller', { hidden: true })
    .description('stop the controller of a release and remove the objects that it has made; the chart uses it')
    .requiredOption('--namespace <name>', 'where the controller is')
    .requiredOption('--deployment <name>', "the controller's Deployment")
    .requiredOption('--selector <labels>', "selects the controller's pods, as kubectl takes it")
    .option('--serves <namespace>', 'a namespace that the controller serves; repeatable; all, when left out', collect, [])
    .option('--kubeconfig <file>', "where the API server is; the pod's ServiceAccount, when left out")
    .action((flags: StopFlags) => endInTime(context, () => stopController(flags, context)));
}

/**
 * Warns about what is left. A failure would stop Helm, and a release on a lost node could not be uninstalled.
 * @throws DiskliftError `InvalidRequest` when there is no API server, or `Cancelled`
 */
async function stopController({ namespace, deployment, selector, serves, kubeconfig }: StopFlags, context: CommandContext): Promise<void> {
  const [{ openApiAccess }, { createWorkloadApi }, { createFleetApi }, { removeFleet }, { MANAGED_SELECTOR }] = await Promise.all([
    import('../../wiring/open-api-access.ts'),
    import('../../stores/kubernetes/client/kube-api.ts'),
    import('../../stores/kubernetes/client/fleet-api.ts'),
    import('../../stores/kubernetes/store/remove-fleet.ts'),
    import('../../controller/export-objects.ts'),
  ]);
  const { clock, signal, warn } = context;
  const access = await openApiAccess(kubeconfig, context);
  const connection = { access, clock, userAgent: `disklift/${packageVersion()}` };
  try {
    const problems = await removeFleet({
      ...{ workloads: createWorkloadApi(connection), fleet: createFleetApi(connection) },
      ...{ namespace, deployment, controllerSelector: selector, managedSelector: MANAGED_SELECTOR, namespaces: serves },
      ...{ clock, signal },
    });
    for (const problem of problems) warn(`not all of the controller is gone, and objects of exports may be left: ${problem}`);
  } finally {
    await access.close();
  }
}
