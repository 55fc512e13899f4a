/** Compares every file of a checkout that names the version with package.json. */

import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Violation } from '../violation.ts';
import { type PackageManifest, readJson, UNRELEASED } from './build-release.ts';

export const VERSION_RULES = [
  'version-lock',
  'version-chart',
  'version-image',
  'version-dockerfile',
  'version-changelog',
  'version-tag',
] as const;

/**
 * In each file, every match has a version in its first group. With `isInAll`, a file without a match is a violation
 * too.
 */
const PLACES: readonly { rule: (typeof VERSION_RULES)[number]; files: readonly string[]; pattern: RegExp; isInAll: boolean }[] = [
  { rule: 'version-chart', files: ['charts/disklift/Chart.yaml'], pattern: /^(?:version|appVersion): "?([^"\s]+)"?$/gm, isInAll: true },
  {
    rule: 'version-image',
    files: ['manifests/**/*.yaml', 'docs/*.md', 'README.md'],
    pattern: /registry\.example\/disklift(?:-formats)?:([\w.-]+)/g,
    isInAll: false,
  },
  { rule: 'version-dockerfile', files: ['Dockerfile'], pattern: /^ARG VERSION=(\S+)$/gm, isInAll: true },
];

export function checkVersions(root: string, tag?: string): Violation[] {
  const { version } = readJson<PackageManifest>(path.join(root, 'package.json'));
  const violations: Violation[] = [];
  const add = (rule: (typeof VERSION_RULES)[number], where: string, what: string) => violations.push({ rule, where, what });

  for (const { rule, files, pattern, isInAll } of PLACES)
    for (const file of globSync([...files], { cwd: root })) {
      const named = [...readFileSync(path.join(root, file), 'utf8').matchAll(pattern)].map(([, each]) => each);
      if (isInAll && named.length === 0) add(rule, file, 'names no version');
      for (const each of named) if (each !== version) add(rule, file, `names version ${each}, not ${version}`);
    }

  const lock = readJson<PackageManifest & { packages: Record<string, PackageManifest> }>(path.join(root, 'package-lock.json'));
  for (const locked of [lock.version, lock.packages['']?.version])
    if (locked !== version) add('version-lock', 'package-lock.json', `names version ${locked}, not ${version}`);

  const [, released = '', day] =
    /^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?$/m.exec(readFileSync(path.join(root, 'CHANGELOG.md'), 'utf8')) ?? [];
  if (released !== version && released !== UNRELEASED)
    add('version-changelog', 'CHANGELOG.md', `begins with "${released}", not ${version}`);
  if (tag && tag !== `v${version}`) add('version-tag', tag, `is not the tag of version ${version}, v${version}`);
  if (tag && (released !== version || day === undefined))
    add('version-tag', 'CHANGELOG.md', `begins with "${released}", not with "[${version}] - YYYY-MM-DD"`);
  return violations;
}
