/** A real nginx, which accepts uploads by WebDAV, with a directory of its own. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './free-port.ts';
import { hasEnded } from './has-ended.ts';

export interface Nginx extends AsyncDisposable {
  url: string;
  /** The file of an upload to `/NAME`. */
  file(name: string): string;
}

/** Debian has it among the programs of administrators, which are not on every user's path. */
const PATHS = `${process.env.PATH}:/usr/sbin:/sbin`;

const MAX_START_MS = 5000;

/** @param locations further directives of `server` in nginx's notation; DIRECTORY stands for the directory */
export async function startNginx(directory: string, locations: string): Promise<Nginx> {
  for (const name of ['files', 'body']) mkdirSync(path.join(directory, name), { recursive: true });
  for (let round = 1; ; round += 1) {
    const nginx = await tryNginx(directory, locations);
    if (nginx !== undefined) return nginx;
    // Another process may have taken the port.
    if (round === 3) throw new Error(`nginx does not start: ${readFileSync(path.join(directory, 'error.log'), 'utf8')}`);
  }
}

async function tryNginx(directory: string, locations: string): Promise<Nginx | undefined> {
  const port = await freePort();
  const configuration = path.join(directory, 'nginx.conf');
  writeFileSync(configuration, configurationOf(directory, port, locations));
  const child = spawn('nginx', ['-e', path.join(directory, 'error.log'), '-p', directory, '-c', configuration], {
    stdio: 'ignore',
    env: { ...process.env, PATH: PATHS },
  });
  const ended = once(child, 'close');
  ended.catch(() => {});
  const endMs = performance.now() + MAX_START_MS;
  while (!hasEnded(child) && performance.now() < endMs && !(await isListening(port))) await sleep(10);
  if (hasEnded(child) || !(await isListening(port))) {
    child.kill('SIGKILL');
    await ended;
    return undefined;
  }
  return {
    url: `http://127.0.0.1:${port}`,
    file: (name) => path.join(directory, 'files', name),
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

function configurationOf(directory: string, port: number, locations: string): string {
  const unused = ['proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${directory}/${name};`).join('\n');
  return `
daemon off;
master_process off;
pid ${directory}/nginx.pid;
events {}
http {
access_log off;
client_body_temp_path ${directory}/body;
${unused}
server {
listen 127.0.0.1:${port};
root ${directory}/files;
${locations.replaceAll('DIRECTORY', directory)}
}
}
`;
}

async function isListening(port: number): Promise<boolean> {
  const socket = net.connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
