/**
 * Builds the container images that tests use, once for each state of the checkout, into a folder of .cache: the two of
 * the Dockerfile, on stand-ins for their bases, and those of the node of test/cluster. It needs root. Images of a state
 * that is no more are removed.
 */

import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { makeNodeArchives } from '../cluster/node/images.ts';
import {
  BUILD_BASE,
  FINAL_BASE,
  FORMATS_BASE,
  makeBuildBase,
  makeFinalBase,
  makeFormatsBase,
  npmAccess,
} from '../helpers/container-bases.ts';
import { archiveImage, assertToolsInstalled, IMAGE_NAME, imagesDirectory, ROOT, STAGES } from '../helpers/container-image.ts';
import { type ContainerStore, createContainerStore } from '../helpers/container-store.ts';
import { createTestAuthority } from '../helpers/test-authority.ts';

/** Shorter than the validity of the authority's certificate on the node. */
const MAX_AGE_MS = 14 * 24 * 3600 * 1000;

const AUTHORITY = '/etc/ssl/authority.pem';

/** Makes the image trust the authority, as base images of companies do. */
async function addAuthority(store: ContainerStore, image: string, authorityFile: string, name: string): Promise<void> {
  const root = store.scratch('with-authority');
  mkdirSync(root);
  copyFileSync(authorityFile, path.join(root, 'authority.pem'));
  const lines = [`FROM ${image}`, `COPY authority.pem ${AUTHORITY}`, `ENV NODE_EXTRA_CA_CERTS=${AUTHORITY}`, ''];
  writeFileSync(`${root}.Dockerfile`, lines.join('\n'));
  await store.buildah(['bud', '--pull-never', '--file', `${root}.Dockerfile`, '--tag', name, root]);
}

async function buildImages(directory: string, binaries: string): Promise<void> {
  await using store = await createContainerStore();
  await makeBuildBase(store);
  await makeFinalBase(store);
  await makeFormatsBase(store);
  const bases = { BUILD_IMAGE: BUILD_BASE, NODE_IMAGE: FINAL_BASE, FORMATS_IMAGE: FORMATS_BASE };
  const baseFlags = Object.entries(bases).flatMap(([name, base]) => ['--build-arg', `${name}=${base}`]);
  for (const stage of STAGES) {
    const name = `localhost/${stage}:built`;
    await store.buildah(['bud', '--pull-never', '--target', stage, ...baseFlags, ...(await npmAccess()), '--tag', name, ROOT]);
    await archiveImage(store, name, path.join(directory, `${stage}.tar`), IMAGE_NAME);
  }
  if (binaries === '') return;
  const authorityDirectory = path.join(directory, 'authority');
  mkdirSync(authorityDirectory);
  const { caFile } = await createTestAuthority(authorityDirectory);
  await addAuthority(store, 'localhost/disklift:built', caFile, 'localhost/disklift:node');
  await archiveImage(store, 'localhost/disklift:node', path.join(directory, 'node-disklift.tar'), IMAGE_NAME);
  await makeNodeArchives(binaries, directory);
}

function isFresh(directory: string): boolean {
  return existsSync(directory) && Date.now() - statSync(directory).mtimeMs < MAX_AGE_MS;
}

/** @param binaries the folder with the program pause, or '' where no node is to start */
async function run(binaries: string): Promise<void> {
  const directory = imagesDirectory();
  const isComplete = binaries === '' || existsSync(path.join(directory, 'authority'));
  if (isFresh(directory) && isComplete) return;
  await assertToolsInstalled();
  console.log('Building the container images of this checkout');
  const parent = path.dirname(directory);
  mkdirSync(parent, { recursive: true });
  // Renamed when complete, so that an incomplete folder never counts as built.
  const partial = mkdtempSync(path.join(parent, 'partial-'));
  try {
    await buildImages(partial, binaries);
    for (const name of readdirSync(parent)) if (path.join(parent, name) !== partial) rmSync(path.join(parent, name), { recursive: true });
    renameSync(partial, directory);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

const pauseFolder = execFileSync(path.join(import.meta.dirname, 'kubernetes-binaries.sh'), ['--existing', 'pause'], {
  encoding: 'utf8',
  env: { ...process.env, CI: '' },
  stdio: ['ignore', 'pipe', 'ignore'],
});
await run(pauseFolder.trim());
