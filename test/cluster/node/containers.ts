/** The processes of a node's containers, found by containerd. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { NodeCluster } from '../node-cluster.ts';

export interface ContainerProcess {
  /** In the node's process namespace. */
  pid: number;
  /** Milliseconds since 1970. */
  startMs: number;
  kill(): Promise<void>;
  /** Memory that the kernel cannot reclaim: without the pages of the program's files. 0 when the process has ended. */
  anonymousBytes(): Promise<number>;
}

/** USER_HZ is 100 on every Linux. */
const MS_PER_TICK = 10;

async function ctr(cluster: NodeCluster, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cluster.run('ctr', ['--namespace', 'k8s.io', ...args]);
  assert.equal(code, 0, stderr);
  return stdout.toString();
}

/** @returns the process of a pod's container; undefined while the container does not run */
export async function processOf(cluster: NodeCluster, pod: string, container: string): Promise<ContainerProcess | undefined> {
  const labels = { 'io.kubernetes.pod.name': pod, 'io.kubernetes.container.name': container };
  const filter = Object.entries(labels).map(([name, value]) => `labels."${name}"==${value}`);
  const ids = (await ctr(cluster, 'containers', 'list', '--quiet', filter.join(','))).split('\n').filter(Boolean);
  const tasks = (await ctr(cluster, 'tasks', 'list')).split('\n').map((line) => line.split(/\s+/) as [string, string, string]);
  const [task, pidText] = tasks.find(([id, , status]) => ids.includes(id) && status === 'RUNNING') ?? [];
  if (task === undefined) return undefined;
  const file = async (name: string) => (await cluster.run('cat', [`/proc/${pidText}/${name}`])).stdout.toString();
  const startTicks = Number((await file('stat')).replace(/^.*\) /s, '').split(' ')[19]);
  const upMs = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000;
  return {
    pid: Number(pidText),
    startMs: Date.now() - upMs + startTicks * MS_PER_TICK,
    kill: async () => void (await ctr(cluster, 'tasks', 'kill', '--signal', 'SIGKILL', task)),
    async anonymousBytes() {
      const [, kib = 0] = /^RssAnon:\s+(\d+) kB$/m.exec(await file('status')) ?? [];
      return Number(kib) * 1024;
    },
  };
}
