/** A directory of its own for every test, removed behind it. */

import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Call inside `describe`. @returns a function that gives the path of `name` in the current test's directory. */
export function useTempDir(): (name: string) => string {
  let directory = '';
  beforeEach(() => {
    directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-test-'));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  return (name) => path.join(directory, name);
}
