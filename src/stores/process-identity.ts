/**
 * Identifies this process, and proves that another process has ended. Only Linux offers proofs; elsewhere the fate
 * stays unknown.
 */

import fs from 'node:fs/promises';

export interface ProcessIdentity {
  pid: number;
  /** In clock ticks since the machine was started. */
  startTicks: string;
  /** A pid is unique within one pid namespace only. Empty when the namespace is unknown. */
  pidNamespace: string;
  /**
   * Boot id of the kernel, because the first pid namespace has the same name on every machine. Empty when it is
   * unknown.
   */
  bootId: string;
  /** Absent outside a container of a kubelet. */
  container?: ContainerRun | undefined;
}

export async function thisProcess(): Promise<ProcessIdentity> {
  const [stat, pidNamespace, bootId, mounts] = await Promise.all([
    readStat(process.pid),
    fs.readlink('/proc/self/ns/pid').catch(() => ''),
    fs.readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => ''),
    fs.readFile('/proc/self/mountinfo', 'utf8').catch(() => ''),
  ]);
  const container = containerRunIn(mounts);
  return {
    pid: process.pid,
    startTicks: stat?.startTicks ?? '',
    pidNamespace: stat === undefined ? '' : pidNamespace,
    bootId: bootId.trim(),
    ...(container === undefined ? {} : { container }),
  };
}

/**
 * Proves whether `other` has ended. In this pid namespace the kernel shows it. A process of an earlier run of this very
 * container has ended too: a kubelet starts a container again only after it has killed every process of the last run.
 * Name and UID of the pod come from the kernel's list of mounts and not from settings, which a copy of the pod would
 * share.
 */
export async function fateOf(other: Partial<ProcessIdentity>, own: ProcessIdentity): Promise<'running' | 'ended' | 'unknown'> {
  const isVisible = own.pidNamespace !== '' && other.pidNamespace === own.pidNamespace && own.bootId !== '' && other.bootId === own.bootId;
  if (isVisible && other.pid !== undefined && other.startTicks !== undefined)
    return (await isRunning(other.pid, other.startTicks)) ? 'running' : 'ended';
  const [theirs, ours] = [other.container, own.container];
  const isSameContainer = theirs !== undefined && theirs.podUid === ours?.podUid && theirs.name === ours.name;
  return isSameContainer && theirs.run !== ours.run ? 'ended' : 'unknown';
}

async function isRunning(pid: number, startTicks: string): Promise<boolean> {
  const stat = await readStat(pid);
  if (stat !== undefined) return stat.startTicks === startTicks && !['Z', 'X'].includes(stat.state);
  // /proc may hide processes of other users (hidepid).
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** @returns undefined for a process that does not exist or is hidden */
async function readStat(pid: number): Promise<{ state: string; startTicks: string } | undefined> {
  const stat = await fs.readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The second field is a name in brackets, which may contain spaces and brackets; proc(5).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, startTicks] = [fields[0] ?? '', fields[19]];
  return startTicks === undefined ? undefined : { state, startTicks };
}

export interface ContainerRun {
  podUid: string;
  name: string;
  /** Changes at each start of the container. */
  run: string;
}

/**
 * The kubelet mounts a file of its own at the container's termination message path, `.../pods/UID/containers/NAME/RUN`,
 * with a new RUN at each start. The kernel shows that path as the root of the mount.
 */
const TERMINATION_LOG = /\/pods\/([0-9a-f-]{1,64})\/containers\/([a-z0-9-]{1,63})\/([0-9a-f]{1,16})$/;

/** @param mountInfo /proc/self/mountinfo, proc(5) @returns undefined unless there is exactly one such mount */
export function containerRunIn(mountInfo: string): ContainerRun | undefined {
  const runs = mountInfo.split('\n').flatMap((line) => {
    const [, podUid, name, run] = TERMINATION_LOG.exec(line.split(' ')[3] ?? '') ?? [];
    return podUid === undefined || name === undefined || run === undefined ? [] : [{ podUid, name, run }];
  });
  return runs.length === 1 ? runs[0] : undefined;
}
