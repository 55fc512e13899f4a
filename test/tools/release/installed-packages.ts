/** The packages below a node_modules folder, by their own manifests. */

import { globSync } from 'node:fs';
import path from 'node:path';
import { type PackageManifest, readJson, run } from './build-release.ts';

export interface InstalledPackage {
  name: string;
  version: string;
  /** An SPDX expression. */
  license: string | undefined;
}

/** @param directory the directory of node_modules */
export function installedPackages(directory: string): InstalledPackage[] {
  const names = globSync('**/node_modules/{*,@*/*}/package.json', { cwd: directory });
  return names.map((name) => {
    const { name: packageName, version, license } = readJson<PackageManifest>(path.join(directory, name));
    return { name: packageName, version, license };
  });
}

/** Installs the production packages of the lock file, as the Dockerfile does. */
export async function installForProduction(root: string, directory: string): Promise<InstalledPackage[]> {
  await run('cp', ['package.json', 'package-lock.json', directory], root);
  const flags = ['--omit=dev', '--omit=peer', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
  await run('npm', ['ci', ...flags], directory);
  return installedPackages(directory);
}
