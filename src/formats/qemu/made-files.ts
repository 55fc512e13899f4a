/** Files that are made for QEMU alone: they have no name by the time that it opens them. */

import fs, { type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import type { Inherited } from './node-graph.ts';

export interface Handles extends AsyncDisposable {
  /** One for each that QEMU inherits, in their order. */
  handles: readonly FileHandle[];
  /** Those that were made. */
  made: readonly FileHandle[];
}

/** @param directory may be removed as soon as they are there. The files of the image stay their owner's. */
export async function openInherited(inherited: readonly Inherited[], directory: string): Promise<Handles> {
  const made: FileHandle[] = [];
  const handles: FileHandle[] = [];
  const close = async () => {
    await Promise.all(made.map((handle) => handle.close()));
  };
  try {
    for (const [index, what] of inherited.entries()) {
      if (what.kind === 'image') {
        handles.push(what.file.handle);
        continue;
      }
      const handle = await fs.open(path.join(directory, `${index}`), 'wx+', 0o600);
      made.push(handle);
      handles.push(handle);
      if (what.kind === 'text') await handle.writeFile(what.text);
      else await handle.truncate(what.sizeBytes);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { handles, made, [Symbol.asyncDispose]: close };
}
