/** The panels of the dashboard as an SVG, with their positions and values. Grafana draws them differently. */

import type { DashboardPanel } from '../helpers/dashboard.ts';

export interface DrawnSeries {
  /** Text in the legend. */
  name: string;
  labels: Record<string, string>;
  /** Times in seconds since the epoch, and values; one where only the last is shown. */
  values: [number, number][];
}

export interface DrawnPanel {
  panel: DashboardPanel;
  /** By query. */
  results: DrawnSeries[][];
}

export interface TimeRange {
  startSeconds: number;
  endSeconds: number;
}

interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

const COLUMN = 52;
const ROW = 30;
const GAP = 8;
const COLORS = ['#3274d9', '#e0862c', '#4f9a52', '#c4162a', '#8f5bd6', '#0b8f8f'];
const TEXT = '#24292f';
const FAINT = '#6e7781';

const escapeText = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

function text(x: number, y: number, words: string, more = ''): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${escapeText(words)}</text>`;
}

/** One digit after the point, except for whole numbers. */
const rounded = (value: number) => Number(value.toFixed(1));

function formatSeconds(seconds: number): string {
  if (seconds >= 3600) return `${rounded(seconds / 3600)} h`;
  if (seconds >= 60) return `${rounded(seconds / 60)} min`;
  return seconds > 0 && seconds < 1 ? `${rounded(1000 * seconds)} ms` : `${rounded(seconds)} s`;
}

function formatBytes(bytes: number): string {
  return bytes >= 1 << 20 ? `${(bytes / (1 << 20)).toFixed(1)} MiB` : `${(bytes / 1024).toFixed(0)} KiB`;
}

/** Formats a value nearly as Grafana does. */
function format(value: number, unit = 'short'): string {
  if (!Number.isFinite(value)) return '-';
  if (unit === 'percentunit') return `${(100 * value).toFixed(0)}%`;
  if (unit === 'bytes' || unit === 'binBps') return formatBytes(value) + (unit === 'bytes' ? '' : '/s');
  if (unit === 's') return formatSeconds(value);
  if (unit === 'cps') return `${value.toFixed(0)} c/s`;
  if (unit === 'dateTimeAsIso') return new Date(value).toISOString().slice(0, 19).replace('T', ' ');
  return value.toLocaleString('en', { maximumFractionDigits: 1 });
}

function drawStat({ panel, results }: DrawnPanel, box: Box): string {
  const shown = results.flat();
  const width = box.width / Math.max(1, shown.length);
  return shown
    .map(({ name, values }, index) => {
      const x = box.x + width * (index + 0.5);
      const value = format(values.at(-1)?.[1] ?? Number.NaN, panel.fieldConfig.defaults.unit);
      const number = text(x, box.y + box.height * 0.55, value, 'text-anchor="middle" font-size="24"');
      return number + text(x, box.y + box.height * 0.85, name, `text-anchor="middle" fill="${FAINT}"`);
    })
    .join('');
}

/** @param box limits the number of lines */
function drawLegend(names: readonly string[], box: Box): string {
  let [x, y] = [box.x, box.y + 10];
  const parts: string[] = [];
  for (const [index, name] of names.entries()) {
    const width = 24 + name.length * 5.8;
    if (x > box.x && x + width > box.x + box.width) [x, y] = [box.x, y + 14];
    if (y > box.y + box.height) break;
    parts.push(`<rect x="${x}" y="${y - 6}" width="10" height="4" fill="${COLORS[index % COLORS.length]}"/>`);
    parts.push(text(x + 13, y, name, `font-size="10" fill="${FAINT}"`));
    x += width;
  }
  return parts.join('');
}

function drawPlot({ panel, results }: DrawnPanel, box: Box, { startSeconds, endSeconds }: TimeRange): string {
  const shown = results.flat().filter(({ values }) => values.length > 0);
  const plot = { x: box.x + 62, y: box.y + 6, width: box.width - 70, height: box.height - 56 };
  const isBars = panel.fieldConfig.defaults.custom?.drawStyle === 'bars';
  const { unit, max: limit } = panel.fieldConfig.defaults;
  const max = limit ?? Math.max(...shown.flatMap(({ values }) => values.map(([, value]) => value)), 1e-9);
  const xOf = (seconds: number) => plot.x + (plot.width * (seconds - startSeconds)) / (endSeconds - startSeconds);
  const yOf = (value: number) => plot.y + plot.height * (1 - Math.min(1, value / max));
  const parts = [0, 0.5, 1].map((share) => {
    const y = yOf(share * max);
    const line = `<line x1="${plot.x}" x2="${plot.x + plot.width}" y1="${y}" y2="${y}" stroke="#d8dee4"/>`;
    return line + text(plot.x - 6, y + 4, format(share * max, unit), `text-anchor="end" font-size="10" fill="${FAINT}"`);
  });
  for (const seconds of [startSeconds, endSeconds]) {
    const label = new Date(seconds * 1000).toISOString().slice(11, 19);
    const anchor = seconds === startSeconds ? 'start' : 'end';
    parts.push(text(xOf(seconds), plot.y + plot.height + 14, label, `text-anchor="${anchor}" font-size="10" fill="${FAINT}"`));
  }
  for (const [index, { values }] of shown.entries()) {
    const color = COLORS[index % COLORS.length];
    if (isBars)
      for (const [seconds, value] of values) {
        if (value === 0) continue;
        const x = xOf(seconds) + index * 3;
        parts.push(
          `<rect x="${x.toFixed(1)}" y="${yOf(value).toFixed(1)}" width="3" height="${(plot.y + plot.height - yOf(value)).toFixed(1)}" fill="${color}"/>`,
        );
      }
    else {
      const points = values.map(([seconds, value]) => `${xOf(seconds).toFixed(1)},${yOf(value).toFixed(1)}`).join(' ');
      parts.push(`<polyline points="${points}" fill="none" stroke="${color}" stroke-width="1.5"/>`);
    }
  }
  const names = shown.map(({ name }) => name);
  return parts.join('') + drawLegend(names, { ...box, y: box.y + box.height - 28, height: 28 });
}

/** Buckets are cumulative: a cell is the difference between its bucket and the one below. */
function drawHeatmap({ results }: DrawnPanel, box: Box, { startSeconds, endSeconds }: TimeRange): string {
  const buckets = results
    .flat()
    .map(({ labels, values }) => ({ bound: Number((labels.le ?? '').replace('+Inf', 'Infinity')), values }))
    .toSorted((a, b) => a.bound - b.bound);
  const plot = { x: box.x + 62, y: box.y + 6, width: box.width - 70, height: box.height - 26 };
  const height = plot.height / Math.max(1, buckets.length);
  const parts: string[] = [];
  for (const [row, { bound, values }] of buckets.entries()) {
    const y = plot.y + plot.height - (row + 1) * height;
    const label = Number.isFinite(bound) ? format(bound, 's') : 'more';
    parts.push(text(plot.x - 6, y + height / 2 + 4, label, `text-anchor="end" font-size="10" fill="${FAINT}"`));
    const step = values.length > 1 ? (values[1] as [number, number])[0] - (values[0] as [number, number])[0] : 1;
    const width = (plot.width * step) / (endSeconds - startSeconds);
    for (const [index, [seconds, value]] of values.entries()) {
      const own = value - (buckets[row - 1]?.values[index]?.[1] ?? 0);
      const x = plot.x + (plot.width * (seconds - startSeconds)) / (endSeconds - startSeconds);
      const opacity = own > 0.5 ? Math.min(1, 0.35 + own / 4) : 0.03;
      const size = `width="${Math.max(1, width - 0.5).toFixed(1)}" height="${(height - 1).toFixed(1)}"`;
      parts.push(`<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${size} fill="${COLORS[0]}" fill-opacity="${opacity}"/>`);
    }
  }
  return parts.join('');
}

const LABEL_TITLES: Record<string, string> = { export_namespace: 'namespace' };

function drawTable({ panel, results }: DrawnPanel, box: Box): string {
  const labels = [...new Set(results.flat().flatMap((each) => Object.keys(each.labels)))];
  const units = new Map(panel.fieldConfig.overrides.map(({ matcher, properties }) => [matcher.options, properties[0]?.value]));
  const columns = [...labels, ...(panel.targets ?? []).map(({ legendFormat }) => legendFormat)];
  const rows = new Map<string, string[]>();
  for (const [index, samples] of results.entries())
    for (const { labels: own, values } of samples) {
      const cells = labels.map((label) => own[label] ?? '');
      const row = rows.get(cells.join()) ?? [...cells, ...results.map(() => '')];
      const title = panel.targets?.[index]?.legendFormat ?? '';
      row[labels.length + index] = format(values.at(-1)?.[1] ?? Number.NaN, units.get(title) ?? panel.fieldConfig.defaults.unit);
      rows.set(cells.join(), row);
    }
  const titles = columns.map((column) => LABEL_TITLES[column] ?? column);
  const lengths = titles.map(
    (title, column) => Math.max(title.length, ...[...rows.values()].map((cells) => cells[column]?.length ?? 0)) + 2,
  );
  const whole = lengths.reduce((sum, length) => sum + length, 0);
  const places = lengths.map(
    (_, column) => box.x + 8 + (box.width * lengths.slice(0, column).reduce((sum, length) => sum + length, 0)) / whole,
  );
  const line = (cells: readonly string[], y: number, more: string) =>
    cells.map((cell, column) => text(places[column] ?? 0, y, cell, more)).join('');
  const head = line(titles, box.y + 16, `font-size="11" fill="${FAINT}"`);
  return head + [...rows.values()].map((cells, index) => line(cells, box.y + 38 + index * 20, 'font-size="12"')).join('');
}

function drawPanel(drawn: DrawnPanel, timeRange: TimeRange): string {
  const { panel } = drawn;
  const { x, y, w, h } = panel.gridPos;
  const outer = { x: x * COLUMN + GAP, y: y * ROW + GAP, width: w * COLUMN - GAP, height: h * ROW - GAP };
  const frame = `<rect x="${outer.x}" y="${outer.y}" width="${outer.width}" height="${outer.height}" rx="4" fill="#fff" stroke="#d0d7de"/>`;
  const title = text(outer.x + 10, outer.y + 19, panel.title, 'font-weight="600"');
  const box = { x: outer.x + 6, y: outer.y + 28, width: outer.width - 12, height: outer.height - 34 };
  const draw = { stat: drawStat, timeseries: drawPlot, heatmap: drawHeatmap, table: drawTable }[panel.type] ?? drawTable;
  return frame + title + draw(drawn, box, timeRange);
}

export function dashboardPicture(rows: readonly DashboardPanel[], panels: readonly DrawnPanel[], timeRange: TimeRange): string {
  const height = Math.max(...panels.map(({ panel: { gridPos } }) => gridPos.y + gridPos.h)) * ROW + GAP;
  const width = 24 * COLUMN + GAP;
  const titles = rows.map(({ title, gridPos }) => text(GAP + 2, gridPos.y * ROW + 26, title, `font-size="14" fill="${FAINT}"`));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13" fill="${TEXT}">`,
    '<title>The panels of the dashboard</title>',
    `<rect width="${width}" height="${height}" fill="#f6f8fa"/>`,
    ...titles,
    ...panels.map((panel) => drawPanel(panel, timeRange)),
    '</svg>',
    '',
  ].join('\n');
}
