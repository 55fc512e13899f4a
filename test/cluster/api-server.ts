/**
 * A real API server with an etcd of its own, on random ports of the loopback and in a directory that is removed with
 * it.
 */

import assert from 'node:assert/strict';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { hasEnded } from '../helpers/has-ended.ts';
import { type CommandResult, runCommand } from '../helpers/run-command.ts';
import { type ApiAnswer, type ApiRequest, sendApiRequest } from './api-request.ts';
import { compactEtcd } from './compact-etcd.ts';
import { existingCluster } from './existing-cluster.ts';
import { writeKubeconfig } from './kubeconfig.ts';
import { usesExistingCluster } from './kubernetes-binaries.ts';
import { endProgram, type Program, startProgram } from './program.ts';

const READY_LIMIT_MS = 40_000;

export interface ApiServer {
  url: string;
  /** Token of a user who may do everything; '' in a cluster that identifies its users by certificates. */
  token: string;
  /** The certificate authority of the server's certificate, PEM. */
  ca: string;
  /** A file by which kubectl, helm and clients reach it as that user. */
  kubeconfig: string;
  request(apiPath: string, options?: ApiRequest): Promise<ApiAnswer>;
  kubectl(...args: string[]): Promise<CommandResult>;
  stop(): Promise<void>;
  /** Undefined for an API server that the tests did not start. */
  outage?: Outage;
}

/** Failures of an API server. Its stored data stays in place. */
export interface Outage {
  /** Ends it at once, like a crash. */
  kill(): Promise<void>;
  /** Starts it at the same address; resolves when it is ready. */
  restart(): Promise<void>;
  /** Stops it: it keeps its connections and does not answer until it is thawed. */
  freeze(): void;
  thaw(): void;
  /** Drops the history of its store. The server itself caches the history until it is restarted. */
  compact(): Promise<void>;
}

export interface ApiServerOptions {
  /** Runs kube-controller-manager as well: garbage is collected, namespaces are emptied, ServiceAccounts are made. */
  controllerManager?: boolean;
  /** Further flags of kube-controller-manager. */
  controllerManagerFlags?: readonly string[];
  /** Address at which nodes and pods reach it; left out, only this machine does. */
  advertiseAddress?: string;
  /** Further users, as lines of a token file: `token,user,uid,"group"`. */
  users?: readonly string[];
  /** Further flags of kube-apiserver. */
  serverFlags?: readonly string[];
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

interface ServerPlace {
  directory: string;
  port: number;
  etcdPort: number;
  token: string;
}

function serverFlags(
  { directory, port, etcdPort, token }: ServerPlace,
  { advertiseAddress, users = [], serverFlags: further = [] }: ApiServerOptions,
): string[] {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const write = (name: string, text: string | Buffer) => {
    writeFileSync(path.join(directory, name), text, { mode: 0o600 });
    return path.join(directory, name);
  };
  return [
    `--etcd-servers=http://127.0.0.1:${etcdPort}`,
    `--cert-dir=${path.join(directory, 'certificates')}`,
    ...(advertiseAddress === undefined ? ['--bind-address=127.0.0.1'] : [`--advertise-address=${advertiseAddress}`]),
    `--secure-port=${port}`,
    '--service-cluster-ip-range=10.0.0.0/24',
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${write('sa.pub', publicKey.export({ type: 'spki', format: 'pem' }))}`,
    `--service-account-signing-key-file=${write('sa.key', privateKey.export({ type: 'pkcs8', format: 'pem' }))}`,
    `--token-auth-file=${write('tokens.csv', [`${token},admin,admin,system:masters`, ...users, ''].join('\n'))}`,
    '--authorization-mode=Node,RBAC',
    '--allow-privileged',
    '--kubelet-preferred-address-types=InternalIP',
    ...further,
  ];
}

function startEtcd(binaries: string, directory: string, [port, peerPort]: readonly [number, number]): Program {
  const [client, peer] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${peerPort}`];
  return startProgram(path.join(binaries, 'etcd'), [
    `--data-dir=${path.join(directory, 'etcd')}`,
    '--unsafe-no-fsync',
    ...[`--listen-client-urls=${client}`, `--advertise-client-urls=${client}`],
    ...[`--listen-peer-urls=${peer}`, `--initial-advertise-peer-urls=${peer}`, `--initial-cluster=default=${peer}`],
  ]);
}

function startControllerManager(binaries: string, directory: string, flags: readonly string[] = []): Program {
  return startProgram(path.join(binaries, 'kube-controller-manager'), [
    `--kubeconfig=${path.join(directory, 'kubeconfig')}`,
    `--service-account-private-key-file=${path.join(directory, 'sa.key')}`,
    `--root-ca-file=${path.join(directory, 'certificates', 'apiserver.crt')}`,
    // No client sends requests to it, so it needs no port.
    ...['--leader-elect=false', '--use-service-account-credentials', '--secure-port=0'],
    ...flags,
  ]);
}

/** @param binaries as {@link kubernetesBinaries} gives it */
export async function startApiServer(binaries: string, options: ApiServerOptions = {}): Promise<ApiServer> {
  if (usesExistingCluster()) return existingCluster();
  const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-api-'));
  const [port, etcdPort, peerPort] = await Promise.all([freePort(), freePort(), freePort()]);
  const token = randomUUID();
  const place = { directory, port, etcdPort, token };
  // Ended in this order, because the server ends slowly without its store.
  const flags = serverFlags(place, options);
  const startServer = () => startProgram(path.join(binaries, 'kube-apiserver'), flags);
  let server = startServer();
  const programs = [server, startEtcd(binaries, directory, [etcdPort, peerPort])];
  const stop = async () => {
    for (const program of programs) await endProgram(program);
    rmSync(directory, { recursive: true, force: true });
  };
  const fail = async (what: string): Promise<never> => {
    await stop();
    const logs = await Promise.all(programs.map(async ({ log }) => (await log).toString().slice(-2000)));
    return assert.fail(`${what}: ${logs.join('\n')}`);
  };
  // Its certificate is issued for the advertised address.
  const url = `https://${options.advertiseAddress ?? '127.0.0.1'}:${port}`;
  const kubeconfig = path.join(directory, 'kubeconfig');
  const caFile = path.join(directory, 'certificates', 'apiserver.crt');
  const request = (apiPath: string, asked: ApiRequest = {}) =>
    sendApiRequest(new URL(apiPath, url), { ca: readIfThere(caFile), token, ...asked });
  const isUp = async (apiPath: string) => (await request(apiPath).catch(() => undefined))?.status === 200;
  const waitFor = async (apiPath: string) => {
    const endMs = performance.now() + READY_LIMIT_MS;
    while (!(await isUp(apiPath))) {
      if (performance.now() > endMs || programs.some(({ child }) => hasEnded(child))) await fail(`${apiPath} did not come up`);
      await delay(100);
    }
  };
  await waitFor('/readyz');
  const ca = readIfThere(caFile);
  writeKubeconfig(kubeconfig, { url, ca, token });
  if (options.controllerManager) {
    programs.unshift(startControllerManager(binaries, directory, options.controllerManagerFlags));
    await waitFor('/api/v1/namespaces/default/serviceaccounts/default');
  }
  const env = { KUBECONFIG: kubeconfig, HOME: directory };
  const kubectl = (...args: string[]) => runCommand(path.join(binaries, 'kubectl'), args, { env });
  const outage: Outage = {
    async kill() {
      server.child.kill('SIGKILL');
      await server.log;
    },
    async restart() {
      const next = startServer();
      programs[programs.indexOf(server)] = next;
      server = next;
      await waitFor('/readyz');
    },
    freeze() {
      server.child.kill('SIGSTOP');
      // Its threads stop one after the other, and one of them may still answer.
      while (!isStopped(server.child.pid as number)) {}
    },
    thaw: () => void server.child.kill('SIGCONT'),
    compact: () => compactEtcd(`http://127.0.0.1:${etcdPort}`),
  };
  return { url, token, ca, kubeconfig, request, kubectl, stop, outage };
}

/** Whether all threads of a process are stopped: the state in proc_pid_stat(5), behind the name in parentheses. */
function isStopped(pid: number): boolean {
  const tasks = `/proc/${pid}/task`;
  const stateOf = (task: string) => readIfThere(`${tasks}/${task}/stat`).replace(/^.*\) /s, '')[0];
  return readdirSync(tasks).every((task) => stateOf(task) === 'T');
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
