/** A directory of its own for every test, removed after the test. */

import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/**
 * Call inside `describe`.
 * @param parent where it is made, for tests of a certain file system
 * @returns a function that gives the path of `name` in the current test's directory.
 */
export function useTempDir(parent: string = os.tmpdir()): (name: string) => string {
  let directory = '';
  beforeEach(() => {
    directory = mkdtempSync(path.join(parent, 'disklift-test-'));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  return (name) => path.join(directory, name);
}
