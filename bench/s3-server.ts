/** The S3 servers that are measured against. */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { createTestAuthority } from '../test/helpers/test-authority.ts';
import { startVersitygw, VERSITYGW_KEYS } from '../test/helpers/versitygw.ts';

export interface BenchS3 {
  name: string;
  endpoint: string;
  pid: number;
  bucket: string;
  /** Credentials and authority. */
  environment: Record<string, string>;
  /** A line for bash that empties the bucket; left out where nothing is kept. */
  clean?: string;
  stop(): Promise<void>;
}

const TMPFS = '/dev/shm';
const BUCKET = 'bench-bucket';
const CREDENTIALS = {
  AWS_ACCESS_KEY_ID: VERSITYGW_KEYS.accessKeyId,
  AWS_SECRET_ACCESS_KEY: VERSITYGW_KEYS.secretAccessKey,
  AWS_REGION: 'us-east-1',
};
const SINK = path.join(import.meta.dirname, 's3-sink.ts');

/**
 * versitygw, with its files on tmpfs.
 * @param cpu the one processor that it may use
 */
export async function startBenchS3(cpu: string): Promise<BenchS3> {
  const directory = newDirectory();
  const server = await startVersitygw(directory, BUCKET);
  execFileSync('taskset', ['-a', '-p', '-c', cpu, `${server.pid}`], { stdio: 'ignore' });
  return {
    name: 'versitygw on tmpfs',
    endpoint: server.url,
    pid: server.pid,
    bucket: BUCKET,
    environment: CREDENTIALS,
    clean: `rm -rf ${directory}/${BUCKET}/* ${directory}/${BUCKET}/.sgwtmp`,
    async stop() {
      await server[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/**
 * bench/s3-sink.ts: https, and nothing is kept.
 * @param cpu the one processor that it may use
 */
export async function startS3Sink(cpu: string): Promise<BenchS3> {
  const directory = newDirectory();
  const { caFile, issue } = await createTestAuthority(directory);
  const { certificateFile, keyFile } = await issue('sink', 'IP:127.0.0.1');
  const sink = spawn('taskset', ['-c', cpu, process.execPath, SINK, certificateFile, keyFile], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [port] = (await once(sink.stdout, 'data')) as [Buffer];
  return {
    name: 'over https, nothing kept',
    endpoint: `https://127.0.0.1:${port.toString().trim()}`,
    pid: sink.pid as number,
    bucket: BUCKET,
    environment: { AWS_CA_BUNDLE: caFile, SSL_CERT_FILE: caFile, NODE_EXTRA_CA_CERTS: caFile, ...CREDENTIALS },
    async stop() {
      sink.kill();
      await once(sink, 'exit');
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function newDirectory(): string {
  return mkdtempSync(path.join(TMPFS, 'disklift-bench-s3-'));
}

/** @returns an S3 destination of a DiskExport */
export function destinationIn({ endpoint, bucket }: BenchS3, key: string): object {
  return { endpoint, region: 'us-east-1', bucket, key, forcePathStyle: true };
}

/** @returns words in front of a command, which has no other authority then */
export function inEnvironment({ environment }: BenchS3): string {
  return ['env -u AWS_CA_BUNDLE', ...Object.entries(environment).map(([name, value]) => `${name}=${value}`)].join(' ');
}
