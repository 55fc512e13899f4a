/**
 * An outage of the storage beneath a directory: a file system in user space covers it, and its daemon stops or dies.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync } from 'node:fs';
import { hasEnded } from './has-ended.ts';
import { runCommand } from './run-command.ts';
import { stopProcess } from './stop-process.ts';
import { until } from './until.ts';

export interface StorageOutageOptions {
  directory: string;
  /** Path of a directory to make; it is what the covered directory would show if its daemon answered. */
  source: string;
  /** 'fails': every call fails with ENOTCONN; 'hangs': none returns before the end of the outage. */
  kind: 'fails' | 'hangs';
}

/** A test that the outage blocks for good fails then, because the daemon's end fails every call. */
const MAX_OUTAGE_SECONDS = 30;

/** Skips the test where it cannot mount, and fails in CI. */
export async function startStorageOutage(
  { directory, source, kind }: StorageOutageOptions,
  context: Mocha.Context,
): Promise<AsyncDisposable> {
  mkdirSync(source, { recursive: true });
  const daemon = spawn('bindfs', ['-f', '-o', 'nonempty', source, directory], { stdio: 'ignore' });
  const killer = spawn('sh', ['-c', `sleep ${MAX_OUTAGE_SECONDS}; kill -9 ${daemon.pid}`], { stdio: 'ignore', detached: true });
  const end = async () => {
    if (!hasEnded(killer)) process.kill(-(killer.pid as number), 'SIGKILL');
    daemon.kill('SIGCONT');
    await runCommand('umount', ['-l', directory]);
    daemon.kill('SIGKILL');
    if (!hasEnded(daemon)) await once(daemon, 'exit');
  };
  try {
    await until('the mount', () => isMounted(directory) || failsToMount(daemon));
    if (kind === 'hangs') await stopProcess(daemon.pid as number);
    else daemon.kill('SIGKILL');
  } catch (error) {
    await end();
    if (process.env.CI) throw error;
    console.error(`    SKIPPED: an outage of storage: ${error instanceof Error ? error.message : error}`);
    context.skip();
  }
  return { [Symbol.asyncDispose]: end };
}

function failsToMount(daemon: ChildProcess): never | false {
  if (hasEnded(daemon)) throw new Error(`bindfs ended with ${daemon.exitCode}; mounting needs root`);
  return false;
}

function isMounted(directory: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${directory} `);
}
