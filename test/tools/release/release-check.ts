/**
 * `make release-check`: builds every artifact of a release beneath .cache/release and verifies it.
 * TAG and REPOSITORY come from the workflow.
 */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { openImage } from '../../helpers/container-image.ts';
import { reportViolations, type Violation } from '../violation.ts';
import { buildRelease, inScratch, readJson, run } from './build-release.ts';
import { checkChart } from './check-chart.ts';
import { checkImage } from './check-image.ts';
import { checkInstalled, checkPackageFiles, installPackage } from './check-package.ts';
import { checkSbomFile, type Sbom } from './check-sbom.ts';
import { checkVersions } from './check-versions.ts';
import { installForProduction } from './installed-packages.ts';

const { TAG, REPOSITORY } = process.env;
const root = process.cwd();
const directory = path.join(root, '.cache', 'release');

const release = await buildRelease(root, directory, REPOSITORY);
const { version, packageFile, sbomFile, chartFile } = release;
const violations: Violation[] = [...checkVersions(root, TAG), ...(await checkPackageFiles(packageFile))];
await inScratch(async (scratch) => {
  const project = path.join(scratch, 'project');
  await installPackage(packageFile, project);
  violations.push(...(await checkInstalled(project, version)));
});
await inScratch(async (scratch) => {
  violations.push(...checkSbomFile(sbomFile, version, await installForProduction(root, scratch)));
});
violations.push(...(await checkChart(chartFile, root, version)));

const isRoot = process.getuid?.() === 0;
if (isRoot) {
  await using image = await openImage('disklift');
  violations.push(...(await checkImage(image, readJson<Sbom>(sbomFile), version)));
} else {
  assert.ok(!process.env.CI, 'the image tree is built and checked by root only');
  console.error('SKIPPED: the image tree, which only root can build');
}

const files = [packageFile, sbomFile, chartFile].map((file) => path.relative(directory, file));
writeFileSync(path.join(directory, 'SHA256SUMS'), await run('sha256sum', files, directory));
reportViolations(`release ${version}: package, bill of materials, chart${isRoot ? ', image' : ''} and versions are right`, violations);
