/** The image of the Dockerfile, built once for a suite. */

import assert from 'node:assert/strict';
import path from 'node:path';
import { BUILD_BASE, FINAL_BASE, FORMATS_BASE, makeBuildBase, makeFinalBase, makeFormatsBase, npmAccess } from './container-bases.ts';
import { type ContainerStore, createContainerStore } from './container-store.ts';
import { runCommand } from './run-command.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
/** What pods call the image. */
export const IMAGE_NAME = 'localhost/disklift:test';

interface ImageConfig {
  User: string;
  Entrypoint: string[];
  Cmd?: string[];
  WorkingDir: string;
  Labels: Record<string, string>;
  Env: string[];
}

export interface BuiltImage extends AsyncDisposable {
  config: ImageConfig;
  /** Where the file system of a container of the image lies. */
  root: string;
  /** Writes it to a file that container runtimes import. */
  archive(file: string): Promise<void>;
}

/** What building and running take. Anything that is missing fails the tests by name. */
async function assertToolsInstalled(): Promise<void> {
  assert.equal(process.getuid?.(), 0, 'building images needs root');
  for (const program of ['buildah', 'qemu-img', 'unshare', 'nsenter', 'setpriv', 'ldd', 'npm']) {
    const { code } = await runCommand('which', [program]);
    assert.equal(code, 0, `${program} is not installed`);
  }
}

interface BuildOptions {
  /** Another stage of the Dockerfile than the last. */
  target?: 'disklift-formats';
  /** PEM: an authority that Node in the base image trusts, as in the base images of many companies. */
  authorityFile?: string;
}

export async function buildImage({ target, authorityFile }: BuildOptions = {}): Promise<BuiltImage> {
  await assertToolsInstalled();
  const store = await createContainerStore();
  try {
    await Promise.all([target === undefined ? makeFinalBase(store, authorityFile) : makeFormatsBase(store), makeBuildBase(store)]);
    const bases = [
      '--build-arg',
      `BUILD_IMAGE=${BUILD_BASE}`,
      '--build-arg',
      `NODE_IMAGE=${FINAL_BASE}`,
      '--build-arg',
      `FORMATS_IMAGE=${FORMATS_BASE}`,
    ];
    const stage = target === undefined ? [] : ['--target', target];
    await store.buildah(['bud', '--pull-never', ...stage, ...bases, ...(await npmAccess()), '--tag', IMAGE_NAME, ROOT]);
    const { OCIv1 } = JSON.parse(await store.buildah(['inspect', '--type', 'image', IMAGE_NAME])) as { OCIv1: { config: ImageConfig } };
    const container = await store.buildah(['from', '--pull-never', IMAGE_NAME]);
    const root = await store.buildah(['mount', container]);
    return {
      config: OCIv1.config,
      root,
      archive: (file) => archiveImage(store, IMAGE_NAME, file),
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    };
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

export async function archiveImage(store: ContainerStore, name: string, file: string): Promise<void> {
  await store.buildah(['push', name, `docker-archive:${file}:${name}`]);
}
