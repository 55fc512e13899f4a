/** KubeVirt's own virt-exportserver, as it runs in the pod of a backup in pull mode, with a played virt-launcher. */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../free-port.ts';
import { hasEnded } from '../has-ended.ts';
import { createTestAuthority } from '../test-authority.ts';
import { type PlayedLauncher, startPlayedLauncher } from './played-launcher.ts';

const SCRIPT = path.join(import.meta.dirname, '..', '..', 'tools', 'kubevirt.sh');
const UID = '4b1c7f3e-0d55-4c52-9d2e-backup';

/** Skips the suite where virt-exportserver is not built. Call it in `before`. */
export function requireExportServer(context: Mocha.Context): string {
  const { status, stdout, stderr } = spawnSync(SCRIPT, ['--existing'], { encoding: 'utf8' });
  const program = path.join(stdout.trim(), 'virt-exportserver');
  if (status === 0 && stdout !== '' && existsSync(program)) return program;
  console.error(`    SKIPPED: ${stderr.trim()}`);
  assert.equal(process.env.CI ?? '', '', stderr);
  return context.skip();
}

export interface ExportServerOptions {
  directory: string;
  program: string;
  volumes: readonly string[];
  type: 'Full' | 'Incremental';
  /** The checkpoint of the backup, which names the bitmap of its changes. */
  checkpoint?: string | undefined;
  token?: string;
  /** The URI of the NBD export of a volume. */
  exportOf(volume: string): string | undefined;
}

export interface ExportServer extends AsyncDisposable {
  /** PEM, as status.endpointCert has it. */
  ca: string;
  token: string;
  /** The host of the URLs has the name that the certificate is for. */
  port: number;
  url(volume: string, endpoint: 'data' | 'map'): URL;
  launcher: PlayedLauncher;
}

/** Policies of the tests allow this address, and not the name `localhost`. */
const HOST = '127.0.0.1';

export async function startExportServer(options: ExportServerOptions): Promise<ExportServer> {
  const { program, volumes, type, checkpoint, token = 'correct-token', exportOf } = options;
  const directory = mkdtempSync(path.join(options.directory, 'export-server-'));
  const authority = await createTestAuthority(directory);
  const server = await authority.issue('virt-export', `IP:${HOST}`);
  const client = await authority.issue(`kubevirt.io:system:client:${UID}`, 'DNS:virt-launcher');
  writeFileSync(path.join(directory, 'token'), token);
  const port = await freePort();
  const env: Record<string, string> = {
    PATH: process.env.PATH ?? '',
    CERT_FILE: server.certificateFile,
    KEY_FILE: server.keyFile,
    TOKEN_FILE: path.join(directory, 'token'),
    LISTEN_ADDR: `${HOST}:${port}`,
    BACKUP_UID: UID,
    BACKUP_TYPE: type,
    BACKUP_CACERT: authority.ca,
    ...(checkpoint === undefined ? {} : { BACKUP_CHECKPOINT: checkpoint }),
  };
  for (const [index, volume] of volumes.entries()) {
    env[`BACKUP${index}_BACKUP_PATH`] = volume;
    env[`BACKUP${index}_DATA_URI`] = `/exports/${volume}/data`;
    env[`BACKUP${index}_MAP_URI`] = `/exports/${volume}/map`;
  }
  const child = spawn(program, [], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  child.stderr.on('data', (bytes: Buffer) => {
    output = `${output}${bytes}`.slice(-4000);
  });
  const ended = once(child, 'close');
  const tls = { ca: authority.ca, cert: client.certificate, key: client.key };
  const launcher = await connectedLauncher();
  return {
    ca: authority.ca,
    token,
    port,
    url: (volume, endpoint) => new URL(`https://${HOST}:${port}/exports/${volume}/${endpoint}`),
    launcher,
    async [Symbol.asyncDispose]() {
      await launcher[Symbol.asyncDispose]();
      child.kill('SIGKILL');
      await ended;
    },
  };

  async function connectedLauncher(): Promise<PlayedLauncher> {
    while (!(await isListening(port))) {
      assert.ok(!hasEnded(child), `virt-exportserver has ended: ${output}`);
      await delay(20);
    }
    return startPlayedLauncher({ port, tls, exportOf });
  }
}

async function isListening(port: number): Promise<boolean> {
  const socket = net.connect(port, HOST);
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
