/** The S3 part of `make bench`: against uploads of an existing image, and against a temporary file. */

import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { BENCH_DIR } from './bench-disks.ts';
import { type Contestant, secondsOf } from './contest.ts';
import type { ExportContest } from './export-contest.ts';
import type { Target } from './report.ts';
import { type BenchS3, destinationIn, inEnvironment } from './s3-server.ts';
import { uploaders } from './uploaders.ts';

const TOUCH_MEMORY = `python3 ${path.join(import.meta.dirname, 'touch-memory.py')}`;

/** @param start starts the server on one processor */
export async function measureS3(contest: ExportContest, start: (cpu: string) => Promise<BenchS3>): Promise<Target[]> {
  const s3 = await start(contest.sinkCpu);
  try {
    return measureServer(contest, s3);
  } finally {
    await s3.stop();
  }
}

function measureServer({ mixed, ready, rounds, exportLine, measure }: ExportContest, s3: BenchS3): Target[] {
  const destination = destinationIn(s3, 'disklift.qcow2');
  const converted = path.join(BENCH_DIR, 'converted.qcow2');
  // Much more than the run writes: a machine may give memory back during the measurement, and with it cached pages.
  const { touchGib, clean } = s3.clean === undefined ? { touchGib: '4 0', clean: 'true' } : { touchGib: '8 8', clean: s3.clean };
  const everywhere = {
    prepare: `${clean}; rm -f ${converted}; ${TOUCH_MEMORY} ${touchGib}; cat ${mixed} ${ready} > /dev/null`,
    // The machine may take half a minute for that.
    rounds: Math.min(rounds, 3),
    serverPid: s3.pid,
  };
  const disklift = (name: string, file: string, checksum: string, more: object = {}): Contestant => ({
    name: `disklift, ${name}`,
    line: `${inEnvironment(s3)} @${exportLine(file, { s3: { ...destination, ...more } }, checksum)}`,
    ...everywhere,
  });

  try {
    const plain = disklift('checksum None', 's3-none', 'None');
    const sha256 = disklift('SHA-256', 's3-sha256', 'SHA256');
    // The default of aws-cli.
    const crc = disklift('None, parts with CRC32', 's3-crc32', 'None', { checksum: 'CRC32' });
    const others = uploaders(ready, s3).map(({ name, line }) => ({ name, line, ...everywhere, limitSeconds: 60 }));
    const ofReady = measure(`mixed 8 GiB, warm, to S3 (${s3.name})`, [plain, sha256, crc, ...others]);
    const [best] = others.toSorted((a, b) => secondsOf(ofReady, a.name) - secondsOf(ofReady, b.name));
    if (best === undefined) return [];

    const convert = `qemu-img convert -f raw -O qcow2 ${mixed} ${converted}`;
    const rival = { name: `convert, then ${best.name}`, line: `${convert}; ${best.line.replaceAll(ready, converted)}`, ...everywhere };
    const ofTemporary = measure(`mixed 8 GiB, warm, to S3 (${s3.name}), against a temporary file`, [plain, crc, rival]);
    const temporarySeconds = secondsOf(ofTemporary, rival.name);
    const leastServerSeconds = Math.min(...[...ofReady, ...ofTemporary].flatMap(({ serverSeconds }) => serverSeconds ?? []));
    console.log(
      `\nThe server takes ${leastServerSeconds.toFixed(2)} s of its processor at the least, whoever sends. ` +
        `A sender that took no time would be ${(temporarySeconds / leastServerSeconds).toFixed(2)} times as fast as ${rival.name}.`,
    );
    return [
      {
        text: `times the best upload of the ready image, S3 (${s3.name})`,
        measured: secondsOf(ofReady, plain.name) / secondsOf(ofReady, best.name),
        limit: 1.3,
      },
      {
        text: `times the speed of convert, then upload, S3 (${s3.name})`,
        measured: temporarySeconds / Math.min(secondsOf(ofTemporary, plain.name), secondsOf(ofTemporary, crc.name)),
        limit: 1.5,
        atLeast: true,
      },
    ];
  } finally {
    execFileSync('rm', ['-f', converted]);
  }
}
