/** Real WebDAV servers with their differences. docs/destinations.md shows the table. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import path from 'node:path';
import { type ListeningProcess, startListening } from './listening-process.ts';
import { pythonProgram, RCLONE } from './python-program.ts';

export interface WebdavServer {
  name: string;
  isThere(): boolean;
  /** @param directory becomes the root that the server serves */
  start(directory: string, options?: { maxFileKib?: number }): Promise<ListeningProcess>;
  /** The server's treatment of If-None-Match. */
  ifNoneMatch: 'honoured' | 'ignored';
  /** The state of an existing file after an upload over it was cut. */
  onCut: 'kept' | 'truncated';
}

const WSGIDAV = pythonProgram('wsgidav', '4.4.0', 'wsgidav');
const ADMINISTRATORS = `${process.env.PATH}:/usr/sbin:/sbin`;

function apacheConfiguration(directory: string, port: number): string {
  const modules = ['mpm_event', 'authz_core', 'dav', 'dav_fs'].map(
    (name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`,
  );
  return `
ServerRoot ${directory}.conf
ServerName 127.0.0.1
Listen 127.0.0.1:${port}
PidFile ${directory}.conf/pid
ErrorLog /dev/null
${modules.join('\n')}
${userInfo().uid === 0 ? 'User www-data\nGroup www-data' : ''}
DavLockDB ${directory}.conf/locks
LimitRequestBody 0
DocumentRoot ${directory}
<Directory ${directory}>
Dav On
Require all granted
</Directory>
`;
}

const apache: WebdavServer = {
  name: 'Apache mod_dav',
  isThere: () => spawnSync('apache2', ['-v'], { env: { ...process.env, PATH: ADMINISTRATORS } }).status === 0,
  start(directory) {
    for (const each of [directory, `${directory}.conf`]) {
      mkdirSync(each, { recursive: true });
      // Apache's workers run as another user.
      spawnSync('chmod', ['0777', each]);
    }
    spawnSync('chmod', ['0711', path.dirname(directory)]);
    const file = path.join(`${directory}.conf`, 'apache.conf');
    return startListening({
      command: 'apache2',
      args(port) {
        writeFileSync(file, apacheConfiguration(directory, port));
        return ['-D', 'FOREGROUND', '-f', file];
      },
    });
  },
  ifNoneMatch: 'honoured',
  onCut: 'kept',
};

const rclone: WebdavServer = {
  name: 'rclone serve webdav',
  isThere: () => existsSync(RCLONE),
  start(directory, { maxFileKib } = {}) {
    mkdirSync(directory, { recursive: true });
    const limit = maxFileKib === undefined ? '' : `ulimit -f ${maxFileKib}; `;
    return startListening({
      command: 'bash',
      args: (port) => ['-c', `${limit}exec "$0" serve webdav "$1" --addr 127.0.0.1:${port} --config /dev/null`, RCLONE, directory],
    });
  },
  ifNoneMatch: 'ignored',
  onCut: 'truncated',
};

const wsgidav: WebdavServer = {
  name: 'wsgidav',
  isThere: () => existsSync(WSGIDAV),
  start(directory) {
    mkdirSync(directory, { recursive: true });
    return startListening({
      command: WSGIDAV,
      args: (port) => ['--host=127.0.0.1', `--port=${port}`, `--root=${directory}`, '--auth=anonymous', '--server=cheroot', '-q'],
      cwd: path.dirname(directory),
    });
  },
  ifNoneMatch: 'honoured',
  onCut: 'truncated',
};

const COPYPARTY = pythonProgram('copyparty', '1.20.26', 'python');

/** A server that stores a second file of a name beside the first, under a name of its own. */
export const PLACING_SERVER: Pick<WebdavServer, 'name' | 'isThere' | 'start'> = {
  name: 'copyparty',
  isThere: () => existsSync(COPYPARTY),
  start(directory) {
    mkdirSync(directory, { recursive: true });
    return startListening({
      command: COPYPARTY,
      args: (port) => ['-m', 'copyparty', '-i', '127.0.0.1', '-p', `${port}`, '-v', `${directory}::rw`, '-q', '--no-crt'],
      cwd: path.dirname(directory),
      env: { HOME: path.dirname(directory), XDG_CONFIG_HOME: path.dirname(directory) },
    });
  },
};

export const WEBDAV_SERVERS: readonly WebdavServer[] = [apache, rclone, wsgidav];

/** A server whose files may be limited in size, as on a disk that is full. */
export const LIMITED_SERVER = rclone;

/** Skips a suite with one loud line where the server is not installed; fails it in CI. Call it in `before`. */
export function requireWebdavServer({ name, isThere }: Pick<WebdavServer, 'name' | 'isThere'>, context: Mocha.Context): void {
  if (isThere()) return;
  const problem = `tests with ${name}: it is not installed; make judges installs it`;
  if (process.env.CI) assert.fail(problem);
  console.error(`    SKIPPED: ${problem}`);
  context.skip();
}
