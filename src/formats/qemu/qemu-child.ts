/** Runs a program of QEMU that serves one disk to this process and ends when this process does. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import { withinLimit } from '../../common/time-limit.ts';
import { type BlockNode, DISK_NODE } from './node-graph.ts';

/** The descriptor of the listening socket: the first one of sd_listen_fds(3). */
const LISTENING_FD = 3;

/** A socket that never carries a byte. It ends when the process that holds the other end is gone. */
const TETHER_FD = 4;

/** The first descriptor of the image's files. */
export const FIRST_FILE_FD = 5;

/** The shell's exit code where no program of QEMU is installed. */
const NOT_INSTALLED = 127;

/**
 * For /bin/sh; `$1` is a block node as JSON, `$2` the node's name and the export's. Writes one line, the program's
 * process id.
 *
 * The shell waits for the program. A second shell waits for the end of the tether and then kills the program. The first
 * shell reaps both, because a container's process 1 may reap nothing. It is not enough that qemu-nbd ends with its last
 * client: it stays when the client dies before the handshake. Messages of the shells about killed processes are
 * dropped.
 */
const QEMU_SCRIPT = `
if command -v qemu-storage-daemon >/dev/null; then
  set -- qemu-storage-daemon --blockdev "$1" --nbd-server addr.type=fd,addr.str=${LISTENING_FD},max-connections=1 \\
    --export "type=nbd,id=$2,node-name=$2,name=$2"
elif command -v qemu-nbd >/dev/null; then
  set -- /bin/sh -c 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"' sh qemu-nbd --read-only --export-name="$2" "json:$1"
else
  exit ${NOT_INSTALLED}
fi
"$@" >/dev/null ${TETHER_FD}<&- & program=$!
exec 2>/dev/null
echo $program
{ read -r _ <&${TETHER_FD}; kill -9 $program; } & tether=$!
wait $program; status=$?
kill -9 $tether; wait $tether
exit $status
`;

export interface Ending {
  /** 128 and the number of the signal for a program that was killed; undefined when nothing could be started. */
  exitCode: number | undefined;
  /** The end of its standard error. */
  stderr: string;
}

export interface QemuChild {
  ended: Promise<Ending>;
  /** The id of QEMU's program; undefined when it was not started. */
  processId: Promise<number | undefined>;
  /** Kills the program and the shells that watch it. Never throws. */
  kill(clock: Clock): Promise<void>;
}

export interface StartOptions {
  disk: BlockNode;
  /** The inherited descriptors, from {@link FIRST_FILE_FD} on. */
  fds: readonly number[];
  /** The path of the socket for a moment. Its directory is private, because the first client is served. */
  socketPath: string;
}

const MAX_STDERR_LENGTH = 4096;

/** The child may take this long to end after its tether ends; then it is killed. */
const KILL_LIMIT_MS = 800;

/**
 * Starts the program with the connection already in the queue of its socket. Nothing is polled, and no other process
 * finds a socket to connect to.
 * @param connect must connect at once; its result fails when the child ends before it serves
 * @throws DiskliftError `SourceReadError`
 */
export async function startQemu<T>(
  { disk, fds, socketPath }: StartOptions,
  connect: (socketPath: string) => Promise<T>,
): Promise<{ connection: Promise<T>; child: QemuChild }> {
  const server = net.createServer();
  try {
    server.listen(socketPath);
    await once(server, 'listening');
    // No await from here to the end, or this process would accept the connection itself.
    const connection = connect(socketPath);
    // Not unhandled if the child cannot be started.
    connection.catch(() => {});
    const started = spawn('/bin/sh', ['-c', QEMU_SCRIPT, 'sh', JSON.stringify(disk), DISK_NODE], {
      stdio: ['ignore', 'pipe', 'pipe', descriptorOf(server), 'pipe', ...fds],
      // In a session of its own, so that an interrupt from the terminal reaches this process only.
      detached: true,
    });
    return { connection, child: watch(started) };
  } catch (error) {
    // No descriptors, processes or memory are left.
    throw new DiskliftError('SourceReadError', `QEMU cannot be started: ${errnoOf(error) ?? String(error)}`, error);
  } finally {
    // Also removes the socket's name.
    server.close();
  }
}

/** Node passes a socket to a child only over an IPC channel, so the descriptor is passed instead. */
function descriptorOf(server: net.Server): number {
  const { _handle: handle } = server as unknown as { _handle: { fd: number } };
  return handle.fd;
}

function watch(started: ChildProcess): QemuChild {
  const { stdout, stderr, stdio } = started as ChildProcess & { stdout: Readable; stderr: Readable };
  const tether = stdio[TETHER_FD] as Duplex;
  let lastText = '';
  stderr.setEncoding('utf8').on('data', (text: string) => {
    lastText = (lastText + text).slice(-MAX_STDERR_LENGTH);
  });
  // The socket is reset when the child ends first.
  tether.on('error', () => {});
  const ended = new Promise<Ending>((resolve) => {
    started.once('error', () => resolve({ exitCode: undefined, stderr: '' }));
    started.once('close', (exitCode) => resolve({ exitCode: exitCode ?? undefined, stderr: lastText }));
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
  const late = () => new DiskliftError('SourceReadError', 'the child has not ended');
  try {
    await withinLimit(ended, { limitMs: KILL_LIMIT_MS, clock, signal: new AbortController().signal, late });
  } catch {
    if (pid !== undefined) killGroup(pid);
  }
}

/** Kills the whole session of shells that are stopped or hang. */
function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // The session has ended since.
  }
}

/** Errors of the storage or of this machine. All other errors concern the image. */
const NOT_THE_IMAGE = /input\/output error|cannot allocate memory|too many open files|stale file handle|no locks available/i;

/** QEMU's error for a VHDX that was not closed: its tables are old, and the log can be replayed only by writing. */
const VHDX_LOG = 'contains a log that needs to be replayed';

const MAX_REASON_LENGTH = 300;

/** The error of a child that ended before it served. @param name of the disk */
export function qemuFailure(name: string, format: string, { exitCode, stderr }: Ending): DiskliftError {
  if (exitCode === undefined || exitCode === NOT_INSTALLED)
    return new DiskliftError(
      'FormatUnsupported',
      `${name}: disks of format ${format} are read by QEMU's qemu-storage-daemon or qemu-nbd, and neither is installed; the image disklift-formats has one`,
    );
  if (stderr.includes(VHDX_LOG))
    return new DiskliftError('FormatUnsupported', `${name}: has a log that is not in its tables yet; qemu-img check -r all puts it there`);
  const reason = reasonIn(stderr);
  if (exitCode > 128 || reason === undefined || NOT_THE_IMAGE.test(reason))
    return new DiskliftError('SourceReadError', `${name}: QEMU ended when it opened it (${reason ?? `exit code ${exitCode}`})`);
  return new DiskliftError('FormatUnsupported', `${name}: QEMU cannot open it as ${format}: ${reason}`);
}

/** @returns the last line that QEMU's program has written, without the node graph that it repeats */
function reasonIn(stderr: string): string | undefined {
  const line = stderr
    .split('\n')
    .findLast((text) => text.startsWith('qemu-'))
    ?.replace(/^qemu-[a-z-]+: /, '')
    .replace(/^.*[}]'?: /, '');
  return line === undefined || line === '' ? undefined : line.slice(0, MAX_REASON_LENGTH);
}
