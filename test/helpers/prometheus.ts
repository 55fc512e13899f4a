/** Prometheus itself, with a directory and a port of its own. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { freePort } from './free-port.ts';
import { hasEnded } from './has-ended.ts';

export interface Sample {
  labels: Record<string, string>;
  value: number;
}

interface Alert {
  labels: Record<string, string>;
  annotations: Record<string, string>;
  state: 'pending' | 'firing';
}

interface Rule {
  name: string;
  type: 'alerting' | 'recording';
  health: string;
  lastError?: string;
}

interface Range {
  startSeconds: number;
  endSeconds: number;
  stepSeconds: number;
}

interface Series {
  labels: Record<string, string>;
  /** Times in seconds since the epoch, and values. */
  values: [number, number][];
}

export interface Prometheus extends AsyncDisposable {
  pid: number;
  /** Evaluates an expression now. @throws when the expression is not valid, or the result no vector */
  query(expr: string): Promise<Sample[]>;
  queryRange(expr: string, range: Range): Promise<Series[]>;
  alerts(): Promise<Alert[]>;
  rules(): Promise<Rule[]>;
  /** The unit that targets state for a family of metrics; '' or undefined if they state no unit. */
  unitOf(family: string): Promise<string | undefined>;
}

export interface PrometheusOptions {
  /** Directory for the data, which is made. */
  directory: string;
  /** HOST:PORT of the targets, by the name of the job. */
  jobs: Record<string, string[]>;
  scrapeIntervalMs: number;
  /** The content of a file of rules. */
  rules: string;
}

const MAX_START_MS = 20_000;

export async function startPrometheus(options: PrometheusOptions): Promise<Prometheus> {
  for (let round = 1; ; round += 1) {
    const prometheus = await tryPrometheus(options, await freePort());
    if (prometheus !== undefined) return prometheus;
    if (round === 3) assert.fail(`prometheus does not start: ${readFileSync(path.join(options.directory, 'log'), 'utf8')}`);
  }
}

function writeConfiguration({ directory, jobs, scrapeIntervalMs, rules }: PrometheusOptions): string {
  mkdirSync(directory, { recursive: true });
  writeFileSync(path.join(directory, 'rules.yaml'), rules);
  const file = path.join(directory, 'prometheus.yaml');
  const interval = `${scrapeIntervalMs}ms`;
  const configuration = {
    global: { scrape_interval: interval, scrape_timeout: interval },
    rule_files: ['rules.yaml'],
    scrape_configs: Object.entries(jobs).map(([job, targets]) => ({ job_name: job, static_configs: [{ targets }] })),
  };
  writeFileSync(file, stringify(configuration));
  return file;
}

async function tryPrometheus(options: PrometheusOptions, port: number): Promise<Prometheus | undefined> {
  const { directory } = options;
  const file = writeConfiguration(options);
  const log = openSync(path.join(directory, 'log'), 'a');
  const args = [
    `--config.file=${file}`,
    `--storage.tsdb.path=${path.join(directory, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=warn',
  ];
  const child = spawn('prometheus', args, { stdio: ['ignore', log, log] });
  const exited = once(child, 'exit');
  const stop = async () => {
    // Its stored data is removed with its directory.
    child.kill('SIGKILL');
    await exited;
  };

  async function get<T>(place: string, parameters: Record<string, string> = {}): Promise<T> {
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/${place}?${new URLSearchParams(parameters)}`);
    const { data, error } = (await response.json()) as { data: T; error?: string };
    if (error !== undefined) assert.fail(`${parameters.query ?? place}: ${error}`);
    return data;
  }

  for (const endMs = performance.now() + MAX_START_MS; ; await sleep(50)) {
    if (hasEnded(child)) return undefined;
    const isReady = await fetch(`http://127.0.0.1:${port}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (isReady) break;
    if (performance.now() > endMs) {
      await stop();
      return undefined;
    }
  }
  return {
    pid: child.pid as number,
    async query(expr) {
      const { resultType, result } = await get<{ resultType: string; result: { metric: Sample['labels']; value: [number, string] }[] }>(
        'query',
        { query: expr },
      );
      assert.equal(resultType, 'vector', expr);
      return result.map(({ metric, value: [, value] }) => ({ labels: metric, value: Number(value) }));
    },
    async queryRange(expr, { startSeconds, endSeconds, stepSeconds }) {
      const { result } = await get<{ result: { metric: Sample['labels']; values: [number, string][] }[] }>('query_range', {
        query: expr,
        start: `${startSeconds}`,
        end: `${endSeconds}`,
        step: `${stepSeconds}`,
      });
      return result.map(({ metric, values }) => ({ labels: metric, values: values.map(([time, value]) => [time, Number(value)]) }));
    },
    alerts: async () => (await get<{ alerts: Alert[] }>('alerts')).alerts,
    rules: async () => (await get<{ groups: { rules: Rule[] }[] }>('rules')).groups.flatMap(({ rules }) => rules),
    unitOf: async (family) => (await get<Record<string, { unit: string }[]>>('metadata', { metric: family }))[family]?.[0]?.unit,
    [Symbol.asyncDispose]: stop,
  };
}
