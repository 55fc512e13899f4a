/**
 * Runs a cluster of one node within the namespaces that namespaces.sh has prepared: run-node.ts DIRECTORY BINARIES
 * IMAGE.tar...
 */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { copyFileSync, mkdirSync, openSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { IMAGE_NAME } from '../../helpers/container-image.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { startApiServer } from '../api-server.ts';
import { auditOfAccounts } from '../audit-log.ts';
import { writeKubeconfig } from '../kubeconfig.ts';
import { type Program, startProgram } from '../program.ts';
import { makeCgroups } from './cgroups.ts';
import {
  CONTAINERD_SOCKET,
  cniConfig,
  containerdConfig,
  corefile,
  DISKLIFT_IMAGE,
  kubeletConfig,
  NODE_ADDRESS,
  NODE_NAME,
} from './configs.ts';

const READY_LIMIT_MS = 60_000;

const [directory, binaries, ...archives] = process.argv.slice(2) as [string, string, ...string[]];

function write(name: string, content: string | object): string {
  const file = path.join(directory, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content, undefined, 2));
  return file;
}

/** The program's output lies in DIRECTORY/NAME.log. */
function start(program: string, ...args: string[]): Program {
  return startProgram(program, args, openSync(path.join(directory, `${path.basename(program)}.log`), 'a'));
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + READY_LIMIT_MS;
  while (!(await isSo())) {
    assert.ok(performance.now() < endMs, `${what}: not within ${READY_LIMIT_MS} ms`);
    await delay(100);
  }
}

const succeeds = async (command: string, ...args: string[]) => (await runCommand(command, args)).code === 0;

async function startContainerd(): Promise<void> {
  const cni = path.dirname(write('cni/pods.conflist', cniConfig()));
  start('containerd', '--config', write('containerd.toml', containerdConfig(cni)), '--address', CONTAINERD_SOCKET);
  const ctr = (...args: string[]) => runCommand('ctr', ['--address', CONTAINERD_SOCKET, '--namespace', 'k8s.io', ...args]);
  await until('containerd answers', async () => (await ctr('version')).code === 0);
  for (const archive of archives) {
    const { code, stderr } = await ctr('images', 'import', archive);
    assert.equal(code, 0, stderr);
  }
  const { code, stderr } = await ctr('images', 'tag', IMAGE_NAME, DISKLIFT_IMAGE);
  assert.equal(code, 0, stderr);
}

const nodeToken = randomUUID();
const [api] = await Promise.all([
  startApiServer(binaries, {
    controllerManager: true,
    // Claims are bound within seconds, not a quarter of a minute.
    controllerManagerFlags: ['--pvclaimbinder-sync-period=2s'],
    advertiseAddress: NODE_ADDRESS,
    serverFlags: auditOfAccounts(directory),
    users: [`${nodeToken},system:node:${NODE_NAME},node,"system:nodes"`],
  }),
  startContainerd(),
]);
const program = (name: string) => path.join(binaries, name);
start(program('kube-scheduler'), `--kubeconfig=${api.kubeconfig}`, '--leader-elect=false');
const proxyFlags = ['--proxy-mode=nftables', '--conntrack-max-per-core=0', `--hostname-override=${NODE_NAME}`];
start(program('kube-proxy'), `--kubeconfig=${api.kubeconfig}`, ...proxyFlags);
start(program('coredns'), '-conf', write('Corefile', corefile(api.kubeconfig)));
const nodeKubeconfig = path.join(directory, 'node-kubeconfig');
writeKubeconfig(nodeKubeconfig, { ...api, token: nodeToken });
start(
  program('kubelet'),
  `--config=${write('kubelet.json', kubeletConfig(makeCgroups(path.basename(directory))))}`,
  ...[`--kubeconfig=${nodeKubeconfig}`, `--hostname-override=${NODE_NAME}`, `--node-ip=${NODE_ADDRESS}`],
);
const wait = ['wait', `node/${NODE_NAME}`, '--for=condition=Ready', '--timeout=1s'];
await until('the node is ready', async () => (await api.kubectl(...wait)).code === 0);
assert.ok(await succeeds('nft', 'list', 'tables'));

// The rename makes the file appear complete.
copyFileSync(api.kubeconfig, path.join(directory, 'kubeconfig.partial'));
renameSync(path.join(directory, 'kubeconfig.partial'), path.join(directory, 'kubeconfig'));
await new Promise(() => setInterval(() => {}, 1 << 30));
