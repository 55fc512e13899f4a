/** A copy of src with its rules, in which a test may break them. */

import { appendFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const ROOT = path.join(import.meta.dirname, '..', '..');

/** Contents by path: `{'src/common/planted.ts': 'export {};'}`. */
export type Plants = Readonly<Record<string, string>>;

export interface PlantedTree extends Disposable {
  root: string;
  /** Writes the files (to one that exists, the text is added), runs `check`, and puts everything back as it was. */
  withPlanted<T>(plants: Plants, check: () => T | Promise<T>): Promise<T>;
}

/** @param copied files and directories of the checkout; node_modules is linked */
export function plantedTree(copied: readonly string[]): PlantedTree {
  const root = mkdtempSync(path.join(os.tmpdir(), 'disklift-planted-'));
  for (const name of copied) cpSync(path.join(ROOT, name), path.join(root, name), { recursive: true });
  symlinkSync(path.join(ROOT, 'node_modules'), path.join(root, 'node_modules'));

  return {
    root,
    async withPlanted(plants, check) {
      const undo: (() => void)[] = [];
      try {
        for (const [name, text] of Object.entries(plants)) undo.push(plant(path.join(root, name), text));
        return await check();
      } finally {
        for (const undoOne of undo.reverse()) undoOne();
      }
    },
    [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }),
  };
}

/** @returns a function that removes the text again, with the directories made for it */
function plant(file: string, text: string): () => void {
  if (existsSync(file)) {
    const before = readFileSync(file);
    appendFileSync(file, text);
    return () => writeFileSync(file, before);
  }
  const made = mkdirSync(path.dirname(file), { recursive: true }) ?? file;
  writeFileSync(file, text);
  return () => rmSync(made, { recursive: true, force: true });
}
