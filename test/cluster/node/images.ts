/** The images that a node starts with, as files: it has no registry to pull others from. */

import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { archiveImage, buildImage } from '../../helpers/container-image.ts';
import { createContainerStore } from '../../helpers/container-store.ts';
import { PAUSE_IMAGE } from './configs.ts';

/** @returns the files of pause and of disklift, the latter built from the project's own Dockerfile */
export async function makeImageArchives(binaries: string, directory: string): Promise<string[]> {
  const [pause, disklift] = [path.join(directory, 'pause.tar'), path.join(directory, 'disklift.tar')];
  await archivePause(path.join(binaries, 'pause'), pause);
  await using image = await buildImage();
  await image.archive(disklift);
  return [pause, disklift];
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
