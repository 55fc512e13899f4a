/** A program of QEMU that serves one disk to this process, and lives no longer than it. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import { withinLimit } from '../../common/within-limit.ts';
import { type BlockNode, DISK_NODE } from './node-graph.ts';
import { QEMU_SCRIPT, TETHER_FD } from './qemu-script.ts';

export interface Ending {
  /** 128 and the number of the signal for a program that was killed; undefined when nothing could be started. */
  exitCode: number | undefined;
  /** The end of what it has said on standard error. */
  words: string;
}

export interface QemuChild {
  ended: Promise<Ending>;
  /** Of QEMU's program; undefined when it was not started. */
  processId: Promise<number | undefined>;
  /** Kills it, and whoever watches over it. Never throws. */
  kill(clock: Clock): Promise<void>;
}

export interface StartOptions {
  disk: BlockNode;
  /** What it inherits, from {@link FIRST_FILE_FD} on. */
  fds: readonly number[];
  /** Where the socket is for a moment. In a directory that is ours alone, since whoever comes first is served. */
  socketPath: string;
}

const MOST_WORDS_LENGTH = 4096;

/** What is to end by itself then. */
const KILL_LIMIT_MS = 800;

/**
 * Starts it with the connection already in its queue: nothing has to be waited for, nothing is polled, and nobody else finds a
 * socket to connect to.
 * @throws DiskliftError `SourceReadError`
 * @param connect must connect at once. What it returns fails when the child ends before it serves.
 */
export async function startQemu<T>(
  { disk, fds, socketPath }: StartOptions,
  connect: (socketPath: string) => Promise<T>,
): Promise<{ connection: Promise<T>; child: QemuChild }> {
  const server = net.createServer();
  try {
    server.listen(socketPath);
    await once(server, 'listening');
    // From here to the end without a pause, or this process would take the connection.
    const connection = connect(socketPath);
    // For nobody, should the child not be started.
    connection.catch(() => {});
    const started = spawn('/bin/sh', ['-c', QEMU_SCRIPT, 'sh', JSON.stringify(disk), DISK_NODE], {
      stdio: ['ignore', 'pipe', 'pipe', descriptorOf(server), 'pipe', ...fds],
      // In a session of its own: an interrupt from the terminal is ours to handle.
      detached: true,
    });
    return { connection, child: watch(started) };
  } catch (error) {
    // Out of descriptors, processes or memory.
    throw new DiskliftError('SourceReadError', `QEMU cannot be started: ${errnoOf(error) ?? String(error)}`, error);
  } finally {
    // Removes the socket's name, too.
    server.close();
  }
}

/** Node gives a socket to a child only together with a way to talk to it. */
function descriptorOf(server: net.Server): number {
  const { _handle: handle } = server as unknown as { _handle: { fd: number } };
  return handle.fd;
}

function watch(started: ChildProcess): QemuChild {
  const { stdout, stderr, stdio } = started as ChildProcess & { stdout: Readable; stderr: Readable };
  const tether = stdio[TETHER_FD] as Duplex;
  let words = '';
  stderr.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-MOST_WORDS_LENGTH);
  });
  // Reset, where the child is gone first.
  tether.on('error', () => {});
  const ended = new Promise<Ending>((resolve) => {
    started.once('error', () => resolve({ exitCode: undefined, words: '' }));
    started.once('close', (exitCode) => resolve({ exitCode: exitCode ?? undefined, words }));
  });
  return { ended, processId: firstNumber(stdout), kill: (clock) => kill(started, { tether, ended, clock }) };
}

async function firstNumber(stream: Readable): Promise<number | undefined> {
  let text = '';
  for await (const chunk of stream.setEncoding('utf8')) {
    text += chunk;
    if (text.includes('\n')) break;
  }
  return /^\d+\n/.test(text) ? Number.parseInt(text, 10) : undefined;
}

interface Killing {
  tether: Duplex;
  ended: Promise<Ending>;
  clock: Clock;
}

async function kill({ pid }: ChildProcess, { tether, ended, clock }: Killing): Promise<void> {
  tether.destroy();
  const late = () => new DiskliftError('SourceReadError', 'still there');
  try {
    await withinLimit(ended, { limitMs: KILL_LIMIT_MS, clock, signal: new AbortController().signal, late });
  } catch {
    if (pid !== undefined) killGroup(pid);
  }
}

/** Shells that were stopped, or are held up: their whole session. */
function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Gone meanwhile.
  }
}
