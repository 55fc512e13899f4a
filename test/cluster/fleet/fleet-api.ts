/** The API server as the players of a fleet use it: objects, and calls that the controller never makes. */

import { systemClock } from '../../../src/common/clock.ts';
import { type ApiConnection, createApiConnection } from '../../../src/stores/kubernetes/client/api-connection.ts';
import { createFleetApi, type FleetApi } from '../../../src/stores/kubernetes/client/fleet-api.ts';
import { createKubeconfigAccess } from '../../../src/stores/kubernetes/client/kubeconfig-access.ts';

export interface PlayersApi extends AsyncDisposable {
  objects: FleetApi;
  connection: ApiConnection;
}

/** Calls of one player at a time. */
const CALLS_AT_A_TIME = 24;

export function openPlayersApi(kubeconfig: string): PlayersApi {
  const access = createKubeconfigAccess({ kubeconfig });
  const options = { access, clock: systemClock, userAgent: 'disklift-fleet/test' };
  return {
    objects: createFleetApi(options),
    connection: createApiConnection(options),
    [Symbol.asyncDispose]: () => access.close(),
  };
}

/** Runs the task for each item, several at a time. */
export async function forEach<T>(items: Iterable<T>, task: (item: T) => Promise<unknown>): Promise<void> {
  const iterator = items[Symbol.iterator]();
  const work = async () => {
    for (let next = iterator.next(); !next.done; next = iterator.next()) await task(next.value);
  };
  await Promise.all(Array.from({ length: CALLS_AT_A_TIME }, work));
}
