/** A real API server with an etcd of its own, on random ports of the loopback and in a directory that goes away with it. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readAll } from '../helpers/run-command.ts';

const BINARIES = path.join(import.meta.dirname, '..', 'tools', 'kubernetes-binaries.sh');
const READY_LIMIT_MS = 40_000;

export interface ApiAnswer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: what the server sends is for the test to look at
  body: any;
  /** Of the header Warning. */
  warnings: string[];
}

interface ApiRequest {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Sent as JSON. */
  body?: unknown;
  contentType?: string;
  accept?: string;
}

export interface ApiServer {
  url: string;
  /** Of a user who may do everything. */
  token: string;
  /** The certificate authority of the server's certificate, PEM. */
  ca: string;
  request(apiPath: string, options?: ApiRequest): Promise<ApiAnswer>;
  stop(): Promise<void>;
}

/** @returns the folder with etcd and kube-apiserver; undefined, and a line on standard error, where they are not to be had */
export function kubernetesBinaries(): string | undefined {
  const { status, stdout } = spawnSync(BINARIES, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  assert.equal(status, 0, 'etcd and kube-apiserver are there');
  return stdout.trim() || undefined;
}

/** A port that nobody listened on a moment ago. */
async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

interface Program {
  child: ChildProcess;
  /** What it has said, once it has ended. */
  log: Promise<Buffer>;
}

function start(program: string, args: string[]): Program {
  // A test run that is killed leaves nobody to stop them; so the kernel does where setpriv can ask it to.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  return { child, log: readAll(child.stderr) };
}

async function end({ child, log }: Program): Promise<void> {
  child.kill('SIGTERM');
  const killer = setTimeout(() => child.kill('SIGKILL'), 5000);
  await log;
  clearTimeout(killer);
}

function serverArgs(directory: string, { port, etcdPort, token }: { port: number; etcdPort: number; token: string }): string[] {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const write = (name: string, text: string | Buffer) => {
    writeFileSync(path.join(directory, name), text, { mode: 0o600 });
    return path.join(directory, name);
  };
  return [
    `--etcd-servers=http://127.0.0.1:${etcdPort}`,
    `--cert-dir=${path.join(directory, 'certificates')}`,
    '--bind-address=127.0.0.1',
    `--secure-port=${port}`,
    '--service-cluster-ip-range=10.0.0.0/24',
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${write('sa.pub', publicKey.export({ type: 'spki', format: 'pem' }))}`,
    `--service-account-signing-key-file=${write('sa.key', privateKey.export({ type: 'pkcs8', format: 'pem' }))}`,
    `--token-auth-file=${write('tokens.csv', `${token},admin,admin,system:masters\n`)}`,
    '--authorization-mode=RBAC',
  ];
}

/** @param binaries as {@link kubernetesBinaries} gives it */
export async function startApiServer(binaries: string): Promise<ApiServer> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-api-'));
  const [port, etcdPort, peerPort] = await Promise.all([freePort(), freePort(), freePort()]);
  const token = randomUUID();
  const [client, peer] = [`http://127.0.0.1:${etcdPort}`, `http://127.0.0.1:${peerPort}`];
  const etcd = start(path.join(binaries, 'etcd'), [
    `--data-dir=${path.join(directory, 'etcd')}`,
    '--unsafe-no-fsync',
    ...[`--listen-client-urls=${client}`, `--advertise-client-urls=${client}`],
    ...[`--listen-peer-urls=${peer}`, `--initial-advertise-peer-urls=${peer}`, `--initial-cluster=default=${peer}`],
  ]);
  const server = start(path.join(binaries, 'kube-apiserver'), serverArgs(directory, { port, etcdPort, token }));
  const stop = async () => {
    // Without its store the server takes long to end.
    await end(server);
    await end(etcd);
    rmSync(directory, { recursive: true, force: true });
  };
  const url = `https://127.0.0.1:${port}`;
  const endMs = performance.now() + READY_LIMIT_MS;
  for (;;) {
    const ca = readIfThere(path.join(directory, 'certificates', 'apiserver.crt'));
    const request = (apiPath: string, options: ApiRequest = {}) => send(new URL(apiPath, url), { ca, token, ...options });
    const ready = ca === '' ? undefined : await request('/readyz').catch(() => undefined);
    if (ready?.status === 200) return { url, token, ca, request, stop };
    if (performance.now() > endMs || server.child.exitCode !== null || etcd.child.exitCode !== null) {
      await stop();
      assert.fail(
        `the API server did not become ready: ${(await etcd.log).toString().slice(-1000)}\n${(await server.log).toString().slice(-3000)}`,
      );
    }
    await delay(100);
  }
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

async function send(url: URL, options: ApiRequest & { ca: string; token: string }): Promise<ApiAnswer> {
  const { method = 'GET', body, contentType = 'application/json', accept = 'application/json', ca, token } = options;
  const headers = { authorization: `Bearer ${token}`, accept, 'content-type': contentType };
  const request = https.request(url, { method, headers, ca, agent: false });
  request.end(body === undefined ? undefined : JSON.stringify(body));
  const response = await new Promise<import('node:http').IncomingMessage>((resolve, reject) => {
    request.once('response', resolve).once('error', reject);
  });
  const text = (await readAll(response)).toString();
  const isJson = response.headers['content-type']?.includes('json') ?? false;
  return {
    status: response.statusCode ?? 0,
    body: isJson ? JSON.parse(text) : text,
    warnings: (response.headersDistinct.warning ?? []).map((warning) => /^\d+ \S+ "(.*)"$/.exec(warning)?.[1] ?? warning),
  };
}
