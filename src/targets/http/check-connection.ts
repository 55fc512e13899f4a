/** Opens a connection to a server and closes it: name, policy, proxy, port and certificate are in order. */

import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { networkError } from '../../network/network-error.ts';
import { type OpenConnectionOptions, openConnection } from '../../network/open-connection.ts';
import { withLimit } from '../with-limit.ts';

export interface ConnectionCheck extends OpenConnectionOptions {
  /** The URL as it may be shown. */
  where: string;
  connectMs: number;
  clock: Clock;
}

/** @throws DiskliftError as an upload would at its connection */
export async function checkConnection({ where, connectMs: limitMs, clock, signal, ...options }: ConnectionCheck): Promise<void> {
  const connecting = new AbortController();
  const opening = openConnection({ ...options, signal: connecting.signal });
  try {
    await withLimit(opening, { limitMs, message: `${where}: no connection`, clock, signal });
  } catch (error) {
    throw networkError(where, error);
  } finally {
    connecting.abort(new DiskliftError('Cancelled', 'done'));
    // This also closes a connection that opens after the caller has stopped waiting.
    opening.then(
      ({ socket }) => socket.destroy(),
      () => {},
    );
  }
}
