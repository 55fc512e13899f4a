/**
 * A real cluster of one node: kubelet, containerd, scheduler, proxy, name server and all, as root, within namespaces of
 * its own. Its network leads nowhere; killing its first process ends all of it.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { imageFile } from '../helpers/container-image.ts';
import { hasEnded } from '../helpers/has-ended.ts';
import { type CommandOptions, type CommandResult, runCommand } from '../helpers/run-command.ts';
import { openTestAuthority, type TestAuthority } from '../helpers/test-authority.ts';
import { kubernetesBinaries, usesExistingCluster } from './kubernetes-binaries.ts';
import { removeCgroups } from './node/cgroups.ts';
import { NODE_NAME, RECEIVER_NAMES } from './node/configs.ts';
import { NODE_ARCHIVES } from './node/images.ts';

const NODE = path.join(import.meta.dirname, 'node');
const READY_LIMIT_MS = 120_000;

/** The programs of a node that Debian packages do not bring. */
const PROGRAMS = [
  'etcd',
  'kube-apiserver',
  'kube-controller-manager',
  'kubectl',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
  'coredns',
  'pause',
];
const DEBIAN_PROGRAMS = [
  'containerd',
  'runc',
  'nft',
  'conntrack',
  'iptables',
  'ip',
  'buildah',
  'qemu-nbd',
  'openssl',
  'unshare',
  'nsenter',
  '/usr/lib/cni/bridge',
];

/** The processes to kill, and the files to remove afterwards. */
export interface NodeProcesses {
  /** Process id of unshare. Killing it kills the node's first process. */
  unsharePid: number;
  /** The first process of the namespaces, for nsenter. */
  firstPid: number;
  /** A directory that the node and this machine share. */
  directory: string;
}

export interface NodeCluster extends NodeProcesses {
  /** For processes on the node. */
  kubeconfig: string;
  /** The folder with kubectl. */
  binaries: string;
  /** An authority that the image on the node trusts. */
  authority: TestAuthority;
  /** The arguments before a command that runs on the node. */
  enter: readonly [string, ...string[]];
  /** Runs a program on the node, which shares this machine's files. */
  run(command: string, args: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  kubectl(...args: string[]): Promise<CommandResult>;
  stop(): Promise<void>;
}

/** Why no node can run here; undefined if it can. */
export async function nodeProblem(): Promise<string | undefined> {
  if (usesExistingCluster()) return 'USE_EXISTING_CLUSTER has it that another cluster is used';
  if (process.getuid?.() !== 0) return 'it needs root';
  for (const program of DEBIAN_PROGRAMS) if ((await runCommand('which', [program])).code !== 0) return `${program} is not installed`;
  return kubernetesBinaries(...PROGRAMS) === undefined ? 'its programs are not to be had' : undefined;
}

/** The only child of a process; undefined before its start. */
function childOf(pid: number): number | undefined {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')) || undefined;
}

/** The end of the node's logs. */
function logsOf(directory: string): string {
  const names = readdirSync(directory).filter((name) => name.endsWith('.log'));
  return names.map((name) => `--- ${name}\n${readFileSync(path.join(directory, name), 'utf8').slice(-1500)}`).join('\n');
}

/** Detaches the loop devices whose files lie in a directory. @param enter the arguments before a command on the node */
async function detachLoopDevices(directory: string, enter: readonly string[] = []): Promise<void> {
  const losetup = (...args: string[]) => runCommand('env', ['--', ...enter, 'losetup', ...args]);
  const { stdout } = await losetup('--list', '--noheadings', '--output', 'NAME,BACK-FILE');
  for (const line of stdout.toString().split('\n')) {
    const [name, file] = line.split(/\s+/, 2);
    if (name && file?.startsWith(directory)) await losetup('--detach', name);
  }
}

/** The kubelet attaches a device to each block volume. It outlives the node, and its name is only known there. */
async function detachFromKubelet(firstPid: number): Promise<void> {
  if (existsSync(`/proc/${firstPid}`)) await detachLoopDevices('/var/lib/kubelet/', ['nsenter', `--target=${firstPid}`, '--mount', '--']);
}

export async function stopNodeCluster({ unsharePid, firstPid, directory }: NodeProcesses): Promise<void> {
  await detachFromKubelet(firstPid);
  if (existsSync(`/proc/${unsharePid}`)) process.kill(unsharePid, 'SIGKILL');
  // The kernel ends all other processes of the node, which takes a moment.
  while (existsSync(`/proc/${firstPid}`)) await delay(20);
  await detachLoopDevices(directory);
  removeCgroups(path.basename(directory));
  rmSync(directory, { recursive: true, force: true, maxRetries: 10 });
}

/** @param outlives whether it continues when this process ends; otherwise it is killed then in any case */
export async function startNodeCluster({ outlives = false } = {}): Promise<NodeCluster> {
  const binaries = kubernetesBinaries(...PROGRAMS) ?? assert.fail('the programs of a node are there');
  const archives = NODE_ARCHIVES.map(imageFile);
  // The image of disklift trusts this authority.
  const authorityFiles = imageFile('authority');
  const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-node-'));
  const authorityDirectory = path.join(directory, 'authority');
  const receivers = Object.entries(RECEIVER_NAMES).map(([name, address]) => `${address} ${name}\n`);
  writeFileSync(path.join(directory, 'receivers'), receivers.join(''));
  cpSync(authorityFiles, authorityDirectory, { recursive: true });
  const authority = openTestAuthority(authorityDirectory);
  const log = openSync(path.join(directory, 'node.log'), 'a');
  const unshare = ['unshare', '--net', '--mount', '--pid', '--uts', '--ipc', '--fork', '--mount-proc', '--kill-child'];
  const main = [process.execPath, path.join(NODE, 'run-node.ts'), directory, binaries, ...archives];
  const [command, ...args] = [...(outlives ? ['setsid'] : ['setpriv', '--pdeathsig', 'KILL']), ...unshare] as [string, ...string[]];
  const child = spawn(command, [...args, path.join(NODE, 'namespaces.sh'), directory, NODE_NAME, ...main], {
    stdio: ['ignore', log, log],
    env: { ...process.env, TMPDIR: directory, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
  const unsharePid = child.pid ?? assert.fail('unshare runs');
  const kubeconfig = path.join(directory, 'kubeconfig');
  const endMs = performance.now() + READY_LIMIT_MS;
  while (!existsSync(kubeconfig)) {
    if (performance.now() > endMs || hasEnded(child)) {
      const logs = logsOf(directory);
      await stopNodeCluster({ unsharePid, firstPid: childOf(unsharePid) ?? unsharePid, directory });
      assert.fail(`the node did not become ready:\n${logs}`);
    }
    await delay(100);
  }
  if (outlives) child.unref();
  const processes: NodeProcesses = { unsharePid, firstPid: childOf(unsharePid) ?? assert.fail('the node runs'), directory };
  const enter = ['nsenter', '--target', String(processes.firstPid), '--net', '--mount', '--pid', '--uts', '--ipc', '--'] as const;
  const env = { KUBECONFIG: kubeconfig, HOME: directory };
  const run: NodeCluster['run'] = (program, programArgs, options = {}) =>
    runCommand(enter[0], [...enter.slice(1), program, ...programArgs], { ...options, env: { ...env, ...options.env } });
  return {
    ...processes,
    kubeconfig,
    binaries,
    enter,
    authority,
    run,
    kubectl: (...kubectlArgs) => run(path.join(binaries, 'kubectl'), kubectlArgs),
    stop: () => stopNodeCluster(processes),
  };
}
