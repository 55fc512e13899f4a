/** The access of a pod's ServiceAccount, from the files that the kubelet mounts. */

import { accessSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import path from 'node:path';
import { Agent } from 'undici';
import type { Clock } from '../../../common/clock.ts';
import { DiskliftError, errnoOf } from '../../../common/errors.ts';
import { type ApiAccess, CONNECT_OPTIONS, createTokenFileReader, HTTP_1 } from './api-access.ts';

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

export interface InClusterOptions {
  /** KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT. */
  host: string | undefined;
  port: string | undefined;
  clock: Pick<Clock, 'monotonicMs'>;
  /** {@link SERVICE_ACCOUNT} when left out. */
  directory?: string;
}

/** The file of the authority is read this often at most: each look costs four calls of the thread pool. */
const AUTHORITY_LIFE_MS = 1000;

/** Ports at which client-node expects a server without TLS. */
const PLAIN_PORTS = ['80', '8080', '8001'];

export function hasServiceAccount(directory = SERVICE_ACCOUNT): boolean {
  try {
    accessSync(path.join(directory, 'token'));
    return true;
  } catch {
    return false;
  }
}

/** @throws DiskliftError `InvalidRequest` when the environment names no API server, or the namespace cannot be read */
export function createInClusterAccess({ host, port, clock, directory = SERVICE_ACCOUNT }: InClusterOptions): ApiAccess {
  const readToken = createTokenFileReader(path.join(directory, 'token'), clock.monotonicMs);
  let trusted: Buffer | undefined;
  let trustedMs = Number.NEGATIVE_INFINITY;
  let agent: Agent | undefined;

  /** Running requests on the old connections may still end. */
  function reconnect(): void {
    agent?.close().catch(() => {});
    agent = undefined;
  }

  /** The kubelet replaces the file when the cluster's authority changes. */
  async function readAuthority(): Promise<Buffer> {
    const nowMs = clock.monotonicMs();
    if (trusted !== undefined && nowMs - trustedMs < AUTHORITY_LIFE_MS) return trusted;
    const ca = await readFile(path.join(directory, 'ca.crt'));
    trustedMs = nowMs;
    return ca;
  }

  return {
    server: serverOf(host, port),
    namespace: readNamespace(path.join(directory, 'namespace')),
    async authenticate() {
      const headers = { Authorization: `Bearer ${await readToken()}` };
      const ca = await readAuthority();
      if (trusted === undefined || !ca.equals(trusted)) reconnect();
      trusted = ca;
      agent ??= new Agent({
        ...HTTP_1,
        connect: { ...CONNECT_OPTIONS, ca, rejectUnauthorized: true, keepAlive: true, keepAliveInitialDelay: 30_000 },
      });
      return { headers, dispatcher: agent };
    },
    reconnect,
    async close() {
      await agent?.destroy();
      agent = undefined;
    },
  };
}

function serverOf(host: string | undefined, port: string | undefined): string {
  const server = `https://${host !== undefined && isIPv6(host) ? `[${host}]` : host}:${port}`;
  if (!URL.canParse(server)) throw new DiskliftError('InvalidRequest', 'the default kubeconfig: its current context names no API server');
  if (port !== undefined && PLAIN_PORTS.includes(port))
    throw new DiskliftError('InvalidRequest', 'the default kubeconfig: its API server has no https');
  return server;
}

function readNamespace(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new DiskliftError('InvalidRequest', `the default kubeconfig cannot be read: ${(error as Error).message}`, error);
  }
}
