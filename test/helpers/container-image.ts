/** The container images of the Dockerfile, which test/tools/container-images.ts builds before the tests start. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { type ContainerStore, createContainerStore } from './container-store.ts';
import { runCommand } from './run-command.ts';

export const ROOT = path.join(import.meta.dirname, '..', '..');
/** The name of the image in the manifests of pods. */
export const IMAGE_NAME = 'localhost/disklift:test';
/** Everything that the images consist of, and the code that builds them. */
const INGREDIENTS = [
  ...['Dockerfile', '.dockerignore', 'LICENSE', 'package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json', 'src'],
  ...[
    'test/helpers/container-bases.ts',
    'test/helpers/container-store.ts',
    'test/cluster/node/images.ts',
    'test/tools/container-images.ts',
  ],
];

/** The stages of the Dockerfile that become images. */
export const STAGES = ['disklift', 'disklift-formats'] as const;
export type Stage = (typeof STAGES)[number];

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
  /** The folder with the file system of a container of the image. */
  root: string;
}

function filesIn(ingredient: string): string[] {
  if (!statSync(path.join(ROOT, ingredient)).isDirectory()) return [ingredient];
  const entries = readdirSync(path.join(ROOT, ingredient), { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => !entry.isDirectory()).map((entry) => path.join(entry.parentPath, entry.name));
  return files.map((file) => path.relative(ROOT, file)).sort();
}

/** The folder with the images of this checkout. Its name changes with everything that the images consist of. */
export function imagesDirectory(): string {
  const hash = createHash('sha256').update(process.version);
  for (const file of INGREDIENTS.flatMap(filesIn)) {
    const content = readFileSync(path.join(ROOT, file));
    hash.update(`${file}\0${content.length}\0`).update(content);
  }
  return path.join(ROOT, '.cache', 'images', hash.digest('hex').slice(0, 16));
}

/** @returns a file of {@link imagesDirectory}, which must exist */
export function imageFile(name: string): string {
  const file = path.join(imagesDirectory(), name);
  assert.ok(existsSync(file), `${file} does not exist; make images builds the images of this checkout`);
  return file;
}

/** Everything that building an image or running one requires. A missing program fails the tests by its name. */
export async function assertToolsInstalled(): Promise<void> {
  assert.equal(process.getuid?.(), 0, 'building images needs root');
  for (const program of ['buildah', 'qemu-img', 'unshare', 'nsenter', 'setpriv', 'ldd', 'npm']) {
    const { code } = await runCommand('which', [program]);
    assert.equal(code, 0, `${program} is not installed`);
  }
}

/** A container of an image that is already built. */
export async function openImage(stage: Stage): Promise<BuiltImage> {
  await assertToolsInstalled();
  const archive = imageFile(`${stage}.tar`);
  const store = await createContainerStore();
  try {
    const container = await store.buildah(['from', `docker-archive:${archive}`]);
    const { OCIv1 } = JSON.parse(await store.buildah(['inspect', '--type', 'image', IMAGE_NAME])) as { OCIv1: { config: ImageConfig } };
    const root = await store.buildah(['mount', container]);
    return { config: OCIv1.config, root, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

/** Writes an image to a file that container runtimes import. @param nameThere the name that it gets there */
export async function archiveImage(store: ContainerStore, name: string, file: string, nameThere = name): Promise<void> {
  await store.buildah(['push', name, `docker-archive:${file}:${nameThere}`]);
}
