/** Finds every address of the API server, because no export may send there. */

import { isIP } from 'node:net';
import type { Clock } from '../../../common/clock.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { unbracketed } from '../../../common/http-url.ts';
import { type Backoff, retry } from '../../../common/retry.ts';
import { withinLimit } from '../../../common/time-limit.ts';
import type { KubeApi } from './contract.ts';

export interface ApiServerHostsOptions {
  discovery: KubeApi['discovery'];
  /** URL of the API server. */
  server: string;
  /** Addresses of a name. */
  resolve(name: string): Promise<readonly string[]>;
  clock: Clock;
  random(): number;
  signal: AbortSignal;
  warn(message: string): void;
}

const BACKOFF: Backoff = { baseMs: 1000, capMs: 10_000 };
const MAX_TRIES = 4;
const RESOLVE_LIMIT_MS = 5000;

/**
 * Collects the server of the configuration, the addresses of its name, and the address that the API server advertises.
 * Behind a Service or a load balancer only the advertised address shows where it listens. Every user may read `/api`.
 * @returns the hosts that were found; never fails and never takes more than about a minute
 */
export async function findApiServerHosts(options: ApiServerHostsOptions): Promise<readonly string[]> {
  const host = unbracketed(new URL(options.server).hostname);
  const [resolved, advertised] = await Promise.all([
    isIP(host) === 0 ? attempted(options, () => resolvedWithin(host, options)) : [],
    attempted(options, () => options.discovery.serverAddresses({ signal: options.signal })),
  ]);
  return [...new Set([host, ...resolved, ...advertised.map(hostOf)])].filter((each) => each !== '');
}

async function attempted(options: ApiServerHostsOptions, ask: () => Promise<readonly string[]>): Promise<readonly string[]> {
  const { clock, random, signal, warn } = options;
  const isRetryable = (error: unknown, failedAttempts: number) =>
    failedAttempts < MAX_TRIES && !(error instanceof DiskliftError && error.code === 'StoreRefused');
  try {
    return await retry(ask, { isRetryable, backoff: BACKOFF, maxDelayMs: BACKOFF.capMs, clock, random, signal });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    if (!signal.aborted)
      warn(`not every address of the API server is known; exports could send there unless denyDestination has it: ${why}`);
    return [];
  }
}

function resolvedWithin(name: string, { resolve, clock, signal }: ApiServerHostsOptions): Promise<readonly string[]> {
  const late = () => new DiskliftError('StoreUnavailable', `the name ${name} was not resolved in ${RESOLVE_LIMIT_MS / 1000} s`);
  return withinLimit(resolve(name), { limitMs: RESOLVE_LIMIT_MS, clock, signal, late });
}

/** @param address `10.0.0.5:6443` or `[fd00::1]:6443` */
function hostOf(address: string): string {
  return unbracketed(URL.parse(`https://${address}`)?.hostname ?? '');
}
