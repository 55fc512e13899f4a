/** Proxies that companies use, from Debian's packages, with Debian's rule that tunnels lead to port 443 only. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';
import { type ListeningProcess, startListening } from './listening-process.ts';

export interface InstalledProxy {
  name: 'squid' | 'tinyproxy';
  /** @param directory is made; holds its configuration */
  start(directory: string): Promise<ListeningProcess>;
}

function configured(directory: string, text: string): string {
  mkdirSync(directory, { recursive: true });
  const file = path.join(directory, 'proxy.conf');
  writeFileSync(file, text);
  return file;
}

const squid: InstalledProxy = {
  name: 'squid',
  start: (directory) =>
    startListening({
      command: 'squid',
      cwd: tmpdir(),
      args: (port) => {
        const lines = [
          `http_port 127.0.0.1:${port}`,
          'acl CONNECT method CONNECT',
          'acl SSL_ports port 443',
          'http_access deny CONNECT !SSL_ports',
          'http_access allow localhost',
          'http_access deny all',
          'cache deny all',
          'pid_filename none',
          'access_log none',
          'cache_log /dev/null',
          // Squid before 6.13 cuts a request whose body fills this buffer (Squid bug 5405); without it, about every
          // third large part.
          'client_request_buffer_max_size 64 MB',
          'netdb_filename none',
          'pinger_enable off',
          'shutdown_lifetime 0 seconds',
          ...(userInfo().uid === 0 ? ['cache_effective_user proxy'] : []),
        ];
        return ['-N', '-f', configured(directory, `${lines.join('\n')}\n`)];
      },
    }),
};

const tinyproxy: InstalledProxy = {
  name: 'tinyproxy',
  start: (directory) =>
    startListening({
      command: 'tinyproxy',
      args: (port) => [
        '-d',
        '-c',
        configured(directory, `Port ${port}\nListen 127.0.0.1\nTimeout 600\nAllow 127.0.0.1\nConnectPort 443\n`),
      ],
    }),
};

export const INSTALLED_PROXIES: readonly InstalledProxy[] = [squid, tinyproxy];

/**
 * Where `name` is not installed, fails a suite in CI, and otherwise skips it with one loud line. Call it in `before`.
 */
export function requireProxy({ name }: InstalledProxy, context: Mocha.Context): void {
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  if (spawnSync(name, ['-v'], { env }).status === 0) return;
  const problem = `${name} is not installed; make judges installs it`;
  if (process.env.CI) throw new Error(problem);
  console.error(`    SKIPPED: tests with ${name}: ${problem}`);
  context.skip();
}
