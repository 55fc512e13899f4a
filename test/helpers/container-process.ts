/**
 * Processes as a kubelet starts them under Pod Security `restricted`: on a read-only root, as a user without
 * capabilities who cannot gain any. Made of namespaces alone, so they need no container runtime.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, readlink } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasEnded } from './has-ended.ts';
import { processorSeconds } from './processor-seconds.ts';
import { type CommandOptions, type CommandResult, readAll, runCommand } from './run-command.ts';

export interface Container {
  /** Its file system. */
  root: string;
  uid: number;
  workingDirectory: string;
  /** A folder that is mounted read-only at /disks. */
  disks: string;
}

/** Search path for programs, on this machine and in the container. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const WITHOUT_PRIVILEGES = ['setpriv', '--no-new-privs'];

/**
 * A chain of programs that each end by `exec`, so that the command becomes the first process. --setgid drops
 * supplementary groups.
 */
const SCRIPT = `
set -e
mount --bind "$ROOT" "$ROOT"
mount --bind "$DISKS" "$ROOT/disks"
mount -o remount,bind,ro "$ROOT/disks"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs tmpfs "$ROOT/dev"
for name in null zero urandom; do touch "$ROOT/dev/$name"; mount --bind "/dev/$name" "$ROOT/dev/$name"; done
mkdir "$ROOT/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/dev/shm"
mount -o remount,ro "$ROOT/dev"
mount -o remount,bind,ro "$ROOT"
exec ${WITHOUT_PRIVILEGES.join(' ')} unshare --root="$ROOT" --wd="$WORKDIR" --setgid="$ID" --setuid="$ID" -- "$@"
`;

/** Starts a container's first process. The child ends with it, by the same code or signal. */
export async function startContainer({ root, uid, workingDirectory, disks }: Container, command: readonly string[]): Promise<ChildProcess> {
  for (const name of ['disks', 'proc', 'dev']) await mkdir(path.join(root, name), { recursive: true });
  const flags = ['--mount', '--pid', '--fork', '--', 'sh', '-c', SCRIPT, 'sh'];
  return spawn('unshare', [...flags, ...command], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH, ROOT: root, WORKDIR: workingDirectory, DISKS: disks, ID: String(uid) },
  });
}

/** The id of the first process on this machine; undefined before its start and after its end. */
async function firstProcess(container: ChildProcess): Promise<number | undefined> {
  const children = await readFile(`/proc/${container.pid}/task/${container.pid}/children`, 'utf8');
  return Number(children) || undefined;
}

/** Ends a container at once, if it still runs: with its first process the kernel ends all others. */
export async function killContainer(container: ChildProcess): Promise<void> {
  if (hasEnded(container)) return;
  const ended = once(container, 'exit');
  const pid = await firstProcess(container);
  if (pid === undefined) container.kill('SIGKILL');
  else process.kill(pid, 'SIGKILL');
  await ended;
}

/** A busy machine may stop the script for longer than {@link IDLE_MS}, while its root is still the machine's. */
async function isInContainer(pid: number): Promise<boolean> {
  const root = await readlink(`/proc/${pid}/root`).catch(() => '/');
  return root !== '/';
}

/** How long a process is idle before it counts as waiting: several ticks of its processor time. */
const IDLE_MS = 300;

/**
 * Waits until the first process has started and waits for something. Before that a signal may find no handler: the
 * kernel drops what the first process does not handle, and Node's own handler, while it starts, ends in such a signal.
 * @returns its id on this machine
 */
async function whenIdle(container: ChildProcess): Promise<number> {
  let last: { pid: number; seconds: number } | undefined;
  while (!hasEnded(container)) {
    const pid = await firstProcess(container);
    if (pid !== undefined && (await isInContainer(pid))) {
      const seconds = processorSeconds(pid);
      if (last?.pid === pid && last.seconds === seconds) return pid;
      last = { pid, seconds };
    }
    await sleep(IDLE_MS);
  }
  throw new Error(`the first process has ended: ${container.exitCode ?? container.signalCode}`);
}

interface Ended {
  /** The exit code, or the signal. */
  end: number | string;
  tookMs: number;
  /** Output that was not read before the end. */
  stdout: Buffer;
  stderr: Buffer;
}

/** Ends a container as the kubelet does first, by SIGTERM. Its output must not have been read before. */
export async function terminate(container: ChildProcess): Promise<Ended> {
  const pid = await whenIdle(container);
  const startMs = performance.now();
  const ended = new Promise<Ended>((resolve, reject) => {
    container.once('exit', (code, signal) => {
      const tookMs = performance.now() - startMs;
      // At once, because Node discards unread output after this event.
      Promise.all([readAll(container.stdout), readAll(container.stderr)]).then(
        ([stdout, stderr]) => resolve({ end: code ?? String(signal), tookMs, stdout, stderr }),
        reject,
      );
    });
  });
  process.kill(pid, 'SIGTERM');
  return ended;
}

/** As `kubectl exec`: finds a program on the container's PATH and runs it beside the first process. */
export async function execIn(
  container: ChildProcess,
  uid: number,
  command: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const pid = await whenIdle(container);
  const namespaces = ['--target', String(pid), '--mount', '--pid', '--root', '--wd', '--setgid', String(uid), '--setuid', String(uid)];
  const [program, ...flags] = [...WITHOUT_PRIVILEGES, 'nsenter', ...namespaces, '--', ...command] as [string, ...string[]];
  return runCommand(program, flags, { ...options, env: { PATH, ...options.env } });
}
