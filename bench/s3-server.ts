/** The S3 server that is measured against: versitygw, with its files on tmpfs. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { startVersitygw, VERSITYGW_KEYS } from '../test/helpers/versitygw.ts';

export interface BenchS3 {
  endpoint: string;
  pid: number;
  bucket: string;
  /** Credentials, as words in front of a command. */
  environment: string;
  /** A line for bash that empties the bucket. */
  clean: string;
  stop(): Promise<void>;
}

const TMPFS = '/dev/shm';
const BUCKET = 'bench-bucket';

/** @param cpu the one processor that it may use */
export async function startBenchS3(cpu: string): Promise<BenchS3> {
  const directory = mkdtempSync(path.join(TMPFS, 'disklift-bench-s3-'));
  const server = await startVersitygw(directory, BUCKET);
  execFileSync('taskset', ['-a', '-p', '-c', cpu, `${server.pid}`], { stdio: 'ignore' });
  const { accessKeyId, secretAccessKey } = VERSITYGW_KEYS;
  return {
    endpoint: server.url,
    pid: server.pid,
    bucket: BUCKET,
    environment: `env -u AWS_CA_BUNDLE AWS_ACCESS_KEY_ID=${accessKeyId} AWS_SECRET_ACCESS_KEY=${secretAccessKey} AWS_REGION=us-east-1`,
    clean: `rm -rf ${directory}/${BUCKET}/* ${directory}/${BUCKET}/.sgwtmp`,
    async stop() {
      await server[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
