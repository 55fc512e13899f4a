/** The images that a node starts with, as files, because it has no registry. */

import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { addProgram } from '../../helpers/container-bases.ts';
import { archiveImage } from '../../helpers/container-image.ts';
import { createContainerStore } from '../../helpers/container-store.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { FORMATS_IMAGE, PAUSE_IMAGE } from './configs.ts';

/**
 * The files of {@link imageFile} that a node imports: pause, disklift, and an image that stands for disklift-formats.
 */
export const NODE_ARCHIVES = ['pause.tar', 'node-formats.tar', 'node-disklift.tar'] as const;

/**
 * Writes those of {@link NODE_ARCHIVES} that are not made from the Dockerfile.
 * @param binaries the folder with the program pause
 */
export async function makeNodeArchives(binaries: string, directory: string): Promise<void> {
  await archivePause(path.join(binaries, 'pause'), path.join(directory, 'pause.tar'));
  await archiveFormats(path.join(directory, 'node-formats.tar'));
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

/**
 * Has qemu-nbd and nothing else: pods of the node that need more of that image do not exist.
 * test/integration/container-formats builds the real one.
 */
async function archiveFormats(file: string): Promise<void> {
  await using store = await createContainerStore();
  const root = store.scratch('formats');
  const { stdout } = await runCommand('which', ['qemu-nbd']);
  await addProgram(root, stdout.toString().trim(), '/usr/bin/qemu-nbd');
  writeFileSync(`${root}.Dockerfile`, 'FROM scratch\nCOPY . /\nENV PATH=/usr/bin\nUSER 107:107\n');
  await store.buildah(['bud', '--file', `${root}.Dockerfile`, '--tag', FORMATS_IMAGE, root]);
  await archiveImage(store, FORMATS_IMAGE, file);
}
