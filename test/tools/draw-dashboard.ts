/**
 * `node test/tools/draw-dashboard.ts FILE.svg` runs exports while the real Prometheus scrapes them. Then it sends the
 * query of each panel of the dashboard to Prometheus, and draws the answers. It takes a minute.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DashboardPanel, expand, panelsOf, readDashboard } from '../helpers/dashboard.ts';
import type { Prometheus } from '../helpers/prometheus.ts';
import { startWatchedExports } from '../helpers/watched-exports.ts';
import { type DrawnPanel, type DrawnSeries, dashboardPicture, type TimeRange } from './dashboard-picture.ts';

const MIB = 1024 * 1024;

/** Slow enough for several scrapes. */
const BYTES_PER_SECOND = 1.5 * MIB;
const AFTER_MS = 8000;

const STEP_SECONDS = 1;
const RATE_INTERVAL_SECONDS = 4;

function legend(format: string, labels: Record<string, string>): string {
  return format.replaceAll(/\{\{(\w+)\}\}/g, (_, label: string) => labels[label] ?? '');
}

async function ask(prometheus: Prometheus, panel: DashboardPanel, { startSeconds, endSeconds }: TimeRange): Promise<DrawnPanel> {
  const results: DrawnSeries[][] = [];
  // Where the panel has a step of its own, it is one at which windows do not overlap.
  const { interval } = panel;
  for (const { expr, legendFormat, instant } of panel.targets ?? []) {
    const text = expand(expr, Math.ceil(endSeconds - startSeconds), RATE_INTERVAL_SECONDS);
    const series = instant
      ? (await prometheus.query(text)).map(({ labels, value }) => ({ labels, values: [[endSeconds, value]] as [number, number][] }))
      : await prometheus.queryRange(text, {
          startSeconds,
          endSeconds,
          stepSeconds: interval === undefined ? STEP_SECONDS : RATE_INTERVAL_SECONDS,
        });
    results.push(series.map((each) => ({ ...each, name: legend(legendFormat, each.labels) })));
  }
  return { panel, results };
}

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error('name a file for the picture');
const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-dashboard-'));
try {
  await using exports = await startWatchedExports(directory, BYTES_PER_SECOND);
  await sleep(AFTER_MS);
  const dashboard = readDashboard();
  const timeRange = { startSeconds: exports.startMs / 1000, endSeconds: Date.now() / 1000 };
  const panels: DrawnPanel[] = [];
  for (const panel of panelsOf(dashboard)) panels.push(await ask(exports.prometheus, panel, timeRange));
  const rows = dashboard.panels.filter(({ type }) => type === 'row');
  writeFileSync(file, dashboardPicture(rows, panels, timeRange));
} finally {
  rmSync(directory, { recursive: true, force: true });
}
