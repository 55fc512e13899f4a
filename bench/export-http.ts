/** The HTTP part of `make bench`: against curl with an existing image, and with the output of the script. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { secondsOf } from './contest.ts';
import type { ExportContest } from './export-contest.ts';
import type { Target } from './report.ts';

const PEERS = process.env.DISKLIFT_PEERS ?? path.join(import.meta.dirname, '..', '..', 'shared', 'peers');
const SCRIPT = path.join(PEERS, 'qcow2-to-stdout-reviewed.py');
const SINK = path.join(import.meta.dirname, 'http-sink.ts');

/** The last pass in the output of `--progress json`. */
function transferSeconds(stderr: string): number {
  const last = stderr.trim().split('\n').at(-1) ?? '';
  return (JSON.parse(last) as { elapsedSeconds: number }).elapsedSeconds;
}

export async function measureHttp({ mixed, ready, sinkCpu, rounds, exportLine, measure }: ExportContest): Promise<Target[]> {
  const sink = spawn('taskset', ['-c', sinkCpu, process.execPath, SINK], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [portText] = (await once(sink.stdout, 'data')) as [Buffer];
  const url = `http://127.0.0.1:${portText.toString().trim()}/mixed.qcow2`;
  const curl = `curl -sSf -T ${ready} ${url} -o /dev/null`;

  const results = measure('mixed 8 GiB (2 data, 1 zeros, 5 holes), warm, by HTTP PUT', [
    { name: 'disklift, checksum None', line: `@${exportLine('none', { http: { url } }, 'None')}` },
    { name: 'disklift, SHA-256', line: `@${exportLine('sha256', { http: { url } }, 'SHA256')}` },
    {
      name: 'disklift, checksum None, transfer alone',
      line: exportLine('none', { http: { url } }, 'None', '--progress json'),
      secondsIn: transferSeconds,
    },
    { name: 'curl -T ready image', line: `@${curl}` },
    { name: 'openssl dgst, then curl -T', line: `openssl dgst -sha256 ${ready} > /dev/null; ${curl}` },
    ...(existsSync(SCRIPT)
      ? [
          {
            name: 'script | curl -T -',
            line: `python3 ${SCRIPT} ${mixed} | curl -sSf -T - ${url} -o /dev/null`,
            rounds: Math.min(rounds, 3),
          },
        ]
      : []),
  ]);
  sink.kill();

  const none = secondsOf(results, 'disklift, checksum None');
  const readyImage = secondsOf(results, 'curl -T ready image');
  return [
    {
      text: 'times curl -T of the ready image, the transfer alone',
      measured: secondsOf(results, 'disklift, checksum None, transfer alone') / readyImage,
      limit: 1,
    },
    { text: 'times curl -T of the ready image, the whole', measured: none / readyImage, limit: 1.5 },
    { text: 'times the speed of script | curl', measured: secondsOf(results, 'script | curl -T -') / none, limit: 2.2, atLeast: true },
    {
      text: 'times openssl dgst and curl -T together, with SHA-256',
      measured: secondsOf(results, 'disklift, SHA-256') / secondsOf(results, 'openssl dgst, then curl -T'),
      limit: 1,
    },
  ];
}
