/** Where the requests of a sidecar come from: a directory, or the API server. */

import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import type { Config } from '../config/load-config.ts';
import { createDirectoryStore } from '../stores/directory/directory-store.ts';
import type { ComposedStore } from './composed-store.ts';

export interface StoreOptions {
  config: Config;
  clock: Clock;
  version: string;
  signal: AbortSignal;
  warn(message: string, key?: string): void;
}

/** @throws DiskliftError `InvalidRequest` for settings that make no sense */
export async function composeStore(options: StoreOptions): Promise<ComposedStore> {
  const { config, clock, warn } = options;
  if (config.requests === '') {
    // client-node takes half a second to load.
    const { composeCluster } = await import('./cluster.ts');
    return composeCluster(options);
  }
  if (config.once !== '') throw new DiskliftError('InvalidRequest', '--once is for a cluster; disklift export runs one manifest');
  let last: { ms: number; monotonicMs: number } | undefined;
  const onLook = () => {
    last = { ms: clock.nowMs(), monotonicMs: clock.monotonicMs() };
  };
  const store = createDirectoryStore({ directory: config.requests, clock, warn, onLook });
  return {
    store,
    lastSuccessMs: () => last?.ms,
    silenceMs: () => (last === undefined ? undefined : clock.monotonicMs() - last.monotonicMs),
    unreadiness: () => (last === undefined ? `${config.requests} cannot be read` : store.problem()),
    illness: () => undefined,
    close: async () => {},
  };
}
