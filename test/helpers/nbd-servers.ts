/** Real NBD servers, on Unix sockets. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../../src/common/clock.ts';
import type { DiskSource } from '../../src/sources/contract.ts';
import { type NbdLimits, openNbdDisk } from '../../src/sources/nbd/nbd-disk.ts';
import { hasEnded } from './has-ended.ts';
import { NEVER } from './image-in-process.ts';

export interface NbdServer extends AsyncDisposable {
  socketPath: string;
  exportName: string;
  /** The URI for `disklift stream`. */
  uri: string;
  process: ChildProcess;
}

async function isListening(socketPath: string): Promise<boolean> {
  const socket = net.connect(socketPath);
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function start(command: string, args: readonly string[], { socketPath, exportName }: { socketPath: string; exportName: string }) {
  // A server logs every client that disconnects early, so its output is shown only if it does not start.
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  child.stderr.on('data', (bytes: Buffer) => {
    output += bytes;
  });
  const ended = once(child, 'close');
  while (!(await isListening(socketPath))) {
    if (hasEnded(child)) throw new Error(`${command} ${args.join(' ')}: ${output}`);
    await delay(5);
  }
  return {
    socketPath,
    exportName,
    uri: `nbd+unix:///${exportName}?socket=${socketPath}`,
    process: child,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** @param args plugin, filters and their parameters */
export function startNbdkit(socketPath: string, args: readonly string[]): Promise<NbdServer> {
  return start('nbdkit', ['--foreground', '--readonly', '--exit-with-parent', '-U', socketPath, ...args], { socketPath, exportName: '' });
}

export function startQemuNbd(socketPath: string, imagePath: string, format: string, flags: readonly string[] = []): Promise<NbdServer> {
  const args = ['--read-only', '--persistent', '--shared=4', '-f', format, '-x', 'disk', ...flags, '-k', socketPath, imagePath];
  return start('qemu-nbd', args, { socketPath, exportName: 'disk' });
}

export function openNbd(server: Pick<NbdServer, 'socketPath' | 'exportName'>, limits: Partial<NbdLimits> = {}): Promise<DiskSource> {
  return openNbdDisk(server, { clock: systemClock, signal: NEVER, limits });
}
