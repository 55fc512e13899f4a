/**
 * A guest of User Mode Linux: a real kernel in a process of the host, with file systems that the host's kernel may
 * lack. Debian's kernel boots in about two seconds. The guest's root is the host's, read-only, so the guest runs the
 * host's programs and this checkout.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasEnded } from '../has-ended.ts';
import type { CommandResult } from '../run-command.ts';

export interface GuestProcess {
  /** Process id of the guest's bash, or of the program when the line begins with `exec`. */
  processId: number;
  ended: Promise<CommandResult>;
}

export interface UmlGuest extends AsyncDisposable {
  /** Runs a line of bash to its end. Rejects after `limitMs`, while the line continues. */
  run(line: string, limitMs?: number): Promise<CommandResult>;
  /** The same, for lines that must succeed. @returns what it writes to stdout */
  output(line: string, limitMs?: number): Promise<string>;
  /** Starts a line of bash; resolves when the guest has started it. */
  start(line: string): Promise<GuestProcess>;
}

const INIT = path.join(import.meta.dirname, 'guest-init.sh');
const MEMORY = '512M';
const DISK_SIZE_BYTES = 512 * 1024 * 1024;
const MAX_BOOT_MS = 60_000;
const MAX_COMMAND_MS = 60_000;
const MAX_POWER_OFF_MS = 5000;
const CONSOLE_LINES_SHOWN = 30;

interface Command {
  started: PromiseWithResolvers<number>;
  ended: PromiseWithResolvers<CommandResult>;
}

/** Boots a guest; its disk /dev/ubda is empty. */
export async function bootUmlGuest(): Promise<UmlGuest> {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'disklift-uml-'));
  const share = path.join(directory, 'share');
  await mkdir(share);
  await createEmptyDisk(path.join(directory, 'disk'));
  const child = spawn('linux.uml', kernelArguments(directory, share), {
    stdio: ['pipe', 'pipe', 'pipe'],
    // The kernel's processes form a process group, so that one signal ends all of them.
    detached: true,
  });
  const closed = once(child, 'close');
  closed.catch(() => {});
  const lines: string[] = [];
  const commands = new Map<string, Command>();
  const ready = Promise.withResolvers<void>();

  async function finish(id: string, code: number): Promise<void> {
    const { ended } = commands.get(id) ?? assert.fail(`the guest ran ${id}, which nobody has sent`);
    commands.delete(id);
    const [stdout, stderr] = await Promise.all([readFile(path.join(share, `${id}.out`)), readFile(path.join(share, `${id}.err`), 'utf8')]);
    ended.resolve({ code, signal: null, stdout, stderr });
  }

  function receive(line: string): void {
    lines.push(line);

    if (line === 'ready') ready.resolve();
    const [, verb, id = '', value] = /^(started|ended) (\d+) (\d+)$/.exec(line.trim()) ?? [];
    if (verb === 'started') commands.get(id)?.started.resolve(Number(value));
    if (verb === 'ended') finish(id, Number(value)).catch((error: unknown) => fail(`${error}`));
  }

  function fail(why: string): void {
    const error = new Error(`User Mode Linux: ${why}\n${lines.slice(-CONSOLE_LINES_SHOWN).join('\n')}`);
    ready.reject(error);
    for (const { started, ended } of commands.values()) {
      started.reject(error);
      ended.reject(error);
    }
  }

  child.once('error', (error) => fail(`${error}`));
  child.once('exit', (code, signal) => fail(`the kernel ended with ${code ?? signal}`));
  child.stdin.on('error', () => {});
  for (const stream of [child.stdout, child.stderr]) createInterface(stream).on('line', receive);

  let nextId = 1;
  async function start(line: string): Promise<GuestProcess> {
    const id = String(nextId++);
    await writeFile(path.join(share, `${id}.sh`), `${line}\n`);
    const command: Command = { started: Promise.withResolvers(), ended: Promise.withResolvers() };
    for (const { promise } of Object.values(command)) promise.catch(() => {});
    commands.set(id, command);
    if (hasEnded(child)) fail('the kernel has ended');
    child.stdin.write(`run ${id}\n`);
    return { processId: await command.started.promise, ended: command.ended.promise };
  }

  async function run(line: string, limitMs = MAX_COMMAND_MS): Promise<CommandResult> {
    const { ended } = await within(start(line), limitMs, `did not start ${line}`);
    return within(ended, limitMs, `did not end ${line}`);
  }

  async function dispose(): Promise<void> {
    child.stdin.end();
    await Promise.race([closed, sleep(MAX_POWER_OFF_MS, undefined, { ref: false })]);
    killGroup(child.pid);
    await closed.catch(() => {});
    await rm(directory, { recursive: true });
  }

  try {
    await within(ready.promise, MAX_BOOT_MS, `did not boot\n${lines.join('\n')}`);
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    run,
    async output(line, limitMs) {
      const { code, stdout, stderr } = await run(line, limitMs);
      assert.equal(code, 0, `${line}: ${stderr}`);
      return stdout.toString();
    },
    start,
    [Symbol.asyncDispose]: dispose,
  };
}

async function createEmptyDisk(file: string): Promise<void> {
  await using disk = await open(file, 'w');
  await disk.truncate(DISK_SIZE_BYTES);
}

function kernelArguments(directory: string, share: string): string[] {
  const root = ['rootfstype=hostfs', 'rootflags=/', 'ro'];
  const init = [`init=${INIT}`, `DISKLIFT_SHARE=${share}`];
  const consoles = ['con=null', 'ssl=null', 'con0=fd:0,fd:1', 'loglevel=1'];
  return [`mem=${MEMORY}`, `uml_dir=${directory}/`, 'umid=guest', `ubda=${directory}/disk`, ...root, ...init, ...consoles];
}

function killGroup(processId: number | undefined): void {
  if (processId === undefined) return;
  try {
    process.kill(-processId, 'SIGKILL');
  } catch {
    // All of them have ended.
  }
}

async function within<T>(promise: Promise<T>, limitMs: number, problem: string): Promise<T> {
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(() => timeout.reject(new Error(`User Mode Linux ${problem} within ${limitMs} ms`)), limitMs);
  try {
    return await Promise.race([promise, timeout.promise]);
  } finally {
    clearTimeout(timer);
  }
}
