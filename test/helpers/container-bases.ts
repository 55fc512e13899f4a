/**
 * Stand-ins for the Dockerfile's two base images, made from the programs of this machine. With them the unchanged
 * Dockerfile can be built where no image registry can be reached.
 */

import assert from 'node:assert/strict';
import { access, chmod, copyFile, cp, mkdir, realpath, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { ContainerStore } from './container-store.ts';
import { runCommand } from './run-command.ts';

export const BUILD_BASE = 'localhost/stand-in/node:latest';
export const FORMATS_BASE = 'localhost/stand-in/node-apt:latest';
export const FINAL_BASE = 'localhost/stand-in/distroless-nodejs:latest';

/** As in the real bases. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Programs that the Dockerfile's RUN lines and npm call. */
const BUILD_PROGRAMS = ['sh', 'env', 'sed', 'rm', 'mv', 'cp', 'mkdir', 'chmod', 'ln'];

/**
 * Like gcr.io/distroless/nodejs24-debian13:nonroot: Node at /nodejs/bin/node is the entry point, no shell, user 65532.
 */
export async function makeFinalBase(store: ContainerStore): Promise<void> {
  const root = store.scratch('final-base');
  await addProgram(root, process.execPath, '/nodejs/bin/node');
  await mkdir(path.join(root, 'etc'));
  // No user has the id 107 here, as in the real base.
  await writeFile(
    path.join(root, 'etc', 'passwd'),
    'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n',
  );
  await imageOf(store, root, FINAL_BASE, [`ENV PATH=${PATH}`, 'USER 65532', 'WORKDIR /home/nonroot', 'ENTRYPOINT ["/nodejs/bin/node"]']);
}

/**
 * As docker.io/library/node: Node beneath /usr/local, a shell, and an apt-get, whose packages are installed already.
 */
export async function makeFormatsBase(store: ContainerStore): Promise<void> {
  const root = store.scratch('formats-base');
  await addProgram(root, process.execPath, '/usr/local/bin/node');
  for (const name of ['sh', 'rm', 'mkdir', 'dirname', 'ln', 'qemu-nbd'])
    await addProgram(root, await outputOf('which', [name]), `/usr/bin/${name}`);
  await mkdir(path.join(root, 'bin'), { recursive: true });
  await symlink('/usr/bin/sh', path.join(root, 'bin', 'sh'));
  await writeFile(path.join(root, 'usr/bin/apt-get'), '#!/bin/sh\nexit 0\n', { mode: 0o755 });
  await imageOf(store, root, FORMATS_BASE, [`ENV PATH=${PATH}`]);
}

/** Like docker.io/library/node: Node and npm beneath /usr/local, and a shell. */
export async function makeBuildBase(store: ContainerStore): Promise<void> {
  const root = store.scratch('build-base');
  await addProgram(root, process.execPath, '/usr/local/bin/node');
  for (const name of BUILD_PROGRAMS) await addProgram(root, await outputOf('which', [name]), `/usr/bin/${name}`);
  await mkdir(path.join(root, 'bin'), { recursive: true });
  for (const name of ['sh', 'env']) await symlink(`/usr/bin/${name}`, path.join(root, 'bin', name));
  // As the registry keeps it, with its dependencies inside.
  const npm = path.resolve(await realpath(await outputOf('which', ['npm'])), '..', '..');
  await cp(npm, path.join(root, 'usr/local/lib/node_modules/npm'), { recursive: true });
  await symlink('../lib/node_modules/npm/bin/npm-cli.js', path.join(root, 'usr/local/bin/npm'));
  await mkdir(path.join(root, 'tmp'));
  const registry = await outputOf('npm', ['config', 'get', 'registry']);
  const authorities = process.env.NODE_EXTRA_CA_CERTS;
  await imageOf(store, root, BUILD_BASE, [
    `ENV PATH=${PATH} HOME=/root`,
    `ENV npm_config_registry=${registry} npm_config_cache=/npm-cache npm_config_prefer_offline=true`,
    ...(authorities ? [`ENV NODE_EXTRA_CA_CERTS=${authorities}`] : []),
  ]);
}

/**
 * @returns buildah's flags that let RUN lines reach the npm registry the way this machine does: mounts, so no image
 *   holds them
 */
export async function npmAccess(): Promise<string[]> {
  const lines = (await outputOf('npm', ['config', 'get', 'cache', 'cafile', 'userconfig', 'globalconfig'])).split('\n');
  const config = Object.fromEntries(lines.map((line) => line.split('=', 2) as [string, string]));
  const mounts = [
    [config.cache, '/npm-cache'],
    [config.userconfig, '/root/.npmrc:ro'],
    [config.globalconfig, '/usr/local/etc/npmrc:ro'],
    [config.cafile, `${config.cafile}:ro`],
    [process.env.NODE_EXTRA_CA_CERTS, `${process.env.NODE_EXTRA_CA_CERTS}:ro`],
  ];
  // A later mount replaces an earlier one at the same path.
  const existing = new Map<string, string>();
  for (const [from, to] of mounts) if (from && to && (await exists(from))) existing.set(to, `${from}:${to}`);
  return [...existing.values()].flatMap((mount) => ['--volume', mount]);
}

/**
 * npm looks for its settings beside its Node: that must be the machine's, not the one that npm scripts put before it.
 */
const MACHINE_PATH = (process.env.PATH ?? PATH).split(':').filter((directory) => !directory.endsWith('/node_modules/.bin'));

async function outputOf(command: string, args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runCommand(command, args, { env: { PATH: MACHINE_PATH.join(':') } });
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${stderr}`);
  return stdout.toString().trim();
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

async function addFile(root: string, from: string, to: string): Promise<void> {
  const target = path.join(root, to);
  await mkdir(path.dirname(target), { recursive: true });
  await copyFile(await realpath(from), target);
  await chmod(target, 0o755);
}

/** Copies a program and, to where it looks for them, its libraries. */
export async function addProgram(root: string, from: string, to: string): Promise<void> {
  await addFile(root, from, to);
  const libraries = (await outputOf('ldd', [await realpath(from)])).matchAll(/(?:=> )?(\/\S+) \(0x/g);
  for (const [, library] of libraries) await addFile(root, library as string, library as string);
}

async function imageOf(store: ContainerStore, root: string, name: string, instructions: string[]): Promise<void> {
  const file = `${root}.Dockerfile`;
  await writeFile(file, ['FROM scratch', 'COPY . /', ...instructions, ''].join('\n'));
  await store.buildah(['bud', '--file', file, '--tag', name, root]);
}
