/** Checks the files of the image: its version, its packages, and that its program starts. */

import path from 'node:path';
import { runCommand } from '../../helpers/run-command.ts';
import type { Violation } from '../violation.ts';
import { type PackageManifest, readJson } from './build-release.ts';
import { missingIn, type Sbom } from './check-sbom.ts';
import { installedPackages } from './installed-packages.ts';

export const IMAGE_RULES = ['image-label', 'image-package', 'image-runs', 'image-sbom'] as const;

export interface ImageTree {
  config: { Labels: Record<string, string> };
  /** The folder with its files. */
  root: string;
}

const VERSION_LABEL = 'org.opencontainers.image.version';

/** Requires root, for chroot. */
export async function checkImage({ config, root }: ImageTree, sbom: Sbom, version: string): Promise<Violation[]> {
  const violations: Violation[] = [];
  const add = (rule: (typeof IMAGE_RULES)[number], where: string, what: string) => violations.push({ rule, where, what });

  const label = config.Labels[VERSION_LABEL];
  if (label !== version) add('image-label', VERSION_LABEL, `is ${label}, not ${version}`);
  const app = path.join(root, 'app');
  const manifest = readJson<PackageManifest>(path.join(app, 'package.json'));
  if (manifest.version !== version) add('image-package', '/app/package.json', `has version ${manifest.version}, not ${version}`);

  const { code, stdout, stderr } = await runCommand('chroot', ['--userspec=107:107', root, '/usr/local/bin/disklift', '--version']);
  if (code !== 0 || stdout.toString() !== `${version}\n`)
    add('image-runs', 'disklift --version', `ended with ${code} and "${stdout}${stderr}", not "${version}"`);

  for (const { where, what } of missingIn(sbom, installedPackages(app))) add('image-sbom', where, what);
  return violations;
}
