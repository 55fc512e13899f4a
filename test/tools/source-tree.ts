/** The TypeScript files of src/, found on the disk and not by the settings of a compiler. */

import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';

export interface SourceFile {
  /** Relative to the root of the checkout, with forward slashes: `src/cli/run.ts`. */
  path: string;
  lineCount: number;
  /** The syntax tree, in which comments are not nodes. */
  tree: ts.SourceFile;
}

/** Every .ts file beneath src/, relative to `root`. */
export function sourcePaths(root: string): string[] {
  const found = readdirSync(path.join(root, 'src'), { recursive: true, encoding: 'utf8' });
  return found
    .filter((name) => name.endsWith('.ts'))
    .map((name) => path.posix.join('src', ...name.split(path.sep)))
    .sort();
}

export function readSourceFile(root: string, sourcePath: string): SourceFile {
  const text = readFileSync(path.join(root, sourcePath), 'utf8');
  const tree = ts.createSourceFile(sourcePath, text, ts.ScriptTarget.Latest, true);
  return { path: sourcePath, lineCount: text.split('\n').length - (text.endsWith('\n') ? 1 : 0), tree };
}
