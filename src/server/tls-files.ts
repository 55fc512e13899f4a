/** The certificate and key of the server, read again when they have changed, as mounted Secrets do. */

import fs from 'node:fs/promises';
import type https from 'node:https';
import { nodeTls } from '../common/builtin.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError, errnoOf } from '../common/errors.ts';

export interface TlsFiles {
  certificateFile: string;
  keyFile: string;
}

export interface TlsMaterial {
  cert: Buffer;
  key: Buffer;
}

/** Looked at rather than waited for: Secrets are replaced by links that change, on file systems that may not tell. */
const PERIOD_MS = 10_000;

/** @throws DiskliftError `InvalidRequest` when they cannot be read or do not belong together */
export async function readTlsFiles({ certificateFile, keyFile }: TlsFiles): Promise<TlsMaterial> {
  try {
    const [cert, key] = await Promise.all([fs.readFile(certificateFile), fs.readFile(keyFile)]);
    nodeTls().createSecureContext({ cert, key });
    return { cert, key };
  } catch (error) {
    const why = errnoOf(error) ?? (error as Error).message;
    throw new DiskliftError('InvalidRequest', `${certificateFile} and ${keyFile} cannot be used for HTTPS: ${why}`, error);
  }
}

export interface Reload {
  server: Pick<https.Server, 'setSecureContext'>;
  files: TlsFiles;
  /** What the server has now. */
  material: TlsMaterial;
  clock: Clock;
  warn(message: string): void;
  signal: AbortSignal;
}

/** Runs until `signal` is aborted. New connections get what the files hold; while they cannot be used, the last that could. */
export async function reloadTlsFiles({ server, files, material, clock, warn, signal }: Reload): Promise<void> {
  let [current, problem] = [material, ''];
  for (;;) {
    try {
      await clock.delay(PERIOD_MS, signal);
    } catch {
      return;
    }
    try {
      const next = await readTlsFiles(files);
      problem = '';
      if (next.cert.equals(current.cert) && next.key.equals(current.key)) continue;
      server.setSecureContext(next);
      current = next;
    } catch (error) {
      const { message } = error as Error;
      // Once, not every ten seconds.
      if (message !== problem) warn(message);
      problem = message;
    }
  }
}
