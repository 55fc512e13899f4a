/**
 * Builds the artifacts of a release that need no root: the npm package, its bill of materials, the chart and the notes.
 */

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { helmProgram } from '../../helpers/helm-tools.ts';
import { runCommand } from '../../helpers/run-command.ts';

/** The heading of the changelog for unreleased changes. */
export const UNRELEASED = 'Unreleased';

export interface Release {
  version: string;
  /** The tarball that npm publishes. */
  packageFile: string;
  /** CycloneDX, as JSON. */
  sbomFile: string;
  chartFile: string;
  /** The section of the changelog. */
  notesFile: string;
}

export interface PackageManifest {
  name: string;
  version: string;
  devDependencies?: Record<string, string>;
  license?: string;
}

export function readJson<T>(file: string): T {
  return JSON.parse(readFileSync(file, 'utf8')) as T;
}

/** Runs a program that must succeed. @returns its standard output */
export async function run(command: string, args: readonly string[], cwd: string): Promise<string> {
  const { code, stdout, stderr } = await runCommand(command, args, { cwd });
  assert.equal(code, 0, `${command} ${args.join(' ')}:\n${stdout}${stderr}`);
  return stdout.toString();
}

/** Calls `use` with a folder that is removed afterwards. */
export async function inScratch<T>(use: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-release-'));
  try {
    return await use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/**
 * @param root the checkout
 * @param repository the URL of the repository. npm refuses a provenance for a package that does not name it; the
 *   checkout names none, so that a fork can publish too.
 */
export async function buildRelease(root: string, directory: string, repository?: string): Promise<Release> {
  const { version } = readJson<PackageManifest>(path.join(root, 'package.json'));
  rmSync(directory, { recursive: true, force: true });
  for (const name of ['npm', 'chart']) mkdirSync(path.join(directory, name), { recursive: true });
  const release = {
    version,
    packageFile: path.join(directory, 'npm', `disklift-${version}.tgz`),
    sbomFile: path.join(directory, `disklift-${version}.cdx.json`),
    chartFile: path.join(directory, 'chart', `disklift-${version}.tgz`),
    notesFile: path.join(directory, 'notes.md'),
  };
  await run('npm', ['pack', '--silent', '--pack-destination', path.dirname(release.packageFile)], root);
  if (repository) await nameRepository(release.packageFile, repository);
  writeFileSync(release.sbomFile, await billOfMaterials(root));
  await run(helmProgram(), ['package', path.join(root, 'charts', 'disklift'), '--destination', path.dirname(release.chartFile)], root);
  writeFileSync(release.notesFile, releaseNotes(readFileSync(path.join(root, 'CHANGELOG.md'), 'utf8'), version));
  return release;
}

async function nameRepository(packageFile: string, repository: string): Promise<void> {
  await inScratch(async (scratch) => {
    await run('tar', ['-xzf', packageFile], scratch);
    const folder = path.join(scratch, 'package');
    const manifest = readJson<PackageManifest>(path.join(folder, 'package.json'));
    const named = { ...manifest, repository: { type: 'git', url: `git+${repository}.git` } };
    writeFileSync(path.join(folder, 'package.json'), `${JSON.stringify(named, undefined, 2)}\n`);
    await run('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', path.dirname(packageFile)], folder);
  });
}

/**
 * The packages of the lock file for production, which the image holds in exactly these versions. `npm sbom --omit dev`
 * leaves out packages that production and development share, therefore npm first drops development from the lock file.
 */
async function billOfMaterials(root: string): Promise<string> {
  return inScratch(async (scratch) => {
    // npm names the product after the folder.
    const folder = path.join(scratch, 'disklift');
    const { devDependencies: _, ...manifest } = readJson<PackageManifest>(path.join(root, 'package.json'));
    cpSync(path.join(root, 'package-lock.json'), path.join(folder, 'package-lock.json'));
    writeFileSync(path.join(folder, 'package.json'), JSON.stringify(manifest));
    await run('npm', ['install', '--package-lock-only', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'], folder);
    return run('npm', ['sbom', '--sbom-format', 'cyclonedx', '--sbom-type', 'application', '--package-lock-only'], folder);
  });
}

/**
 * @returns the section of a version without its heading, or the section of unreleased changes before the version has
 *   one
 */
export function releaseNotes(changelog: string, version: string): string {
  const [, ...sections] = changelog.split(/^## /m);
  const sectionOf = (name: string) => sections.find((each) => each.startsWith(`[${name}]`));
  const section = sectionOf(version) ?? sectionOf(UNRELEASED);
  assert.ok(section, `CHANGELOG.md has a section for ${version}`);
  return section.slice(section.indexOf('\n')).trim().concat('\n');
}
