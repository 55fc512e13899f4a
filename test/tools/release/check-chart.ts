/** The packaged chart: its version, its files, and the objects that helm makes of it. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parse } from 'yaml';
import { helmProgram } from '../../helpers/helm-tools.ts';
import { runCommand } from '../../helpers/run-command.ts';
import type { Violation } from '../violation.ts';
import { run } from './build-release.ts';

export const CHART_RULES = ['chart-version', 'chart-crd', 'chart-image', 'chart-lint'] as const;

const VALUES = ['--set', 'image.repository=registry.example/disklift,volumes.fedora.claimName=fedora-root'];

export async function checkChart(chartFile: string, root: string, version: string): Promise<Violation[]> {
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'disklift-chart-'));
  try {
    await run('tar', ['-xzf', chartFile], scratch);
    return await checkChartFolder(path.join(scratch, 'disklift'), root, version);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

const CRDS = [
  ['diskexports.yaml', 'manifests/crd.yaml'],
  ['diskexportschedules.yaml', 'manifests/crd-schedules.yaml'],
] as const;

/** @param folder the chart, unpacked */
export async function checkChartFolder(folder: string, root: string, version: string): Promise<Violation[]> {
  const violations: Violation[] = [];
  const add = (rule: (typeof CHART_RULES)[number], where: string, what: string) => violations.push({ rule, where, what });

  const chart = parse(readFileSync(path.join(folder, 'Chart.yaml'), 'utf8')) as { version: string; appVersion: string };
  for (const key of ['version', 'appVersion'] as const)
    if (chart[key] !== version) add('chart-version', 'Chart.yaml', `${key} is ${chart[key]}, not ${version}`);

  for (const [inChart, original] of CRDS) {
    const crd = readFileSync(path.join(folder, 'crds', inChart), 'utf8');
    if (crd !== readFileSync(path.join(root, original), 'utf8')) add('chart-crd', `crds/${inChart}`, `differs from ${original}`);
  }

  const rendered = await runCommand(helmProgram(), ['template', 'disklift', folder, ...VALUES]);
  const images = [...rendered.stdout.toString().matchAll(/^\s*image: "?([^"\s]+)/gm)].map(([, image]) => image);
  if (rendered.code !== 0) add('chart-image', 'helm template', rendered.stderr);
  else if (images.length === 0) add('chart-image', 'helm template', 'no object has an image');
  for (const image of images)
    if (image !== `registry.example/disklift:${version}`)
      add('chart-image', 'helm template', `has the image ${image}, not version ${version}`);

  const lint = await runCommand(helmProgram(), ['lint', '--strict', folder, ...VALUES]);
  if (lint.code !== 0) add('chart-lint', 'helm lint', `${lint.stdout}${lint.stderr}`);
  return violations;
}
