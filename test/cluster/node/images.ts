/** The images that a node starts with, as files: it has no registry to pull others from. */

import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { addProgram } from '../../helpers/container-bases.ts';
import { archiveImage, buildImage } from '../../helpers/container-image.ts';
import { createContainerStore } from '../../helpers/container-store.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { FORMATS_IMAGE, PAUSE_IMAGE } from './configs.ts';

/**
 * @param authorityFile PEM: an authority that the base image of disklift trusts
 * @returns the files of pause, of disklift, built from the project's own Dockerfile, and of what stands for disklift-formats
 */
export async function makeImageArchives(binaries: string, directory: string, authorityFile: string): Promise<string[]> {
  const file = (name: string) => path.join(directory, `${name}.tar`);
  await archivePause(path.join(binaries, 'pause'), file('pause'));
  await archiveFormats(file('disklift-formats'));
  await using image = await buildImage({ authorityFile });
  await image.archive(file('disklift'));
  return [file('pause'), file('disklift-formats'), file('disklift')];
}

async function archivePause(program: string, file: string): Promise<void> {
  await using store = await createContainerStore();
  const root = store.scratch('pause');
  mkdirSync(root);
  copyFileSync(program, path.join(root, 'pause'));
  writeFileSync(`${root}.Dockerfile`, 'FROM scratch\nCOPY pause /pause\nUSER 65535\nENTRYPOINT ["/pause"]\n');
  await store.buildah(['bud', '--file', `${root}.Dockerfile`, '--tag', PAUSE_IMAGE, root]);
  await archiveImage(store, PAUSE_IMAGE, file);
}

/** Has qemu-nbd and nothing else: pods of the node that need more of that image do not exist. test/integration/container-formats builds the real one. */
async function archiveFormats(file: string): Promise<void> {
  await using store = await createContainerStore();
  const root = store.scratch('formats');
  const { stdout } = await runCommand('which', ['qemu-nbd']);
  await addProgram(root, stdout.toString().trim(), '/usr/bin/qemu-nbd');
  writeFileSync(`${root}.Dockerfile`, 'FROM scratch\nCOPY . /\nENV PATH=/usr/bin\nUSER 107:107\n');
  await store.buildah(['bud', '--file', `${root}.Dockerfile`, '--tag', FORMATS_IMAGE, root]);
  await archiveImage(store, FORMATS_IMAGE, file);
}
