import { existsSync, mkdirSync } from 'node:fs';
import { createBufferPool } from '../../src/common/buffers.ts';
import { systemClock } from '../../src/common/clock.ts';
import { createNetworkAccess } from '../../src/network/destination-policy.ts';
import { createHttpFiles } from '../../src/targets/http/http-files.ts';
import { createS3Files } from '../../src/targets/s3/s3-files.ts';
import { startNginx } from '../helpers/nginx.ts';
import { SECRET } from '../helpers/s3-export.ts';
import { BUCKET, startS3Fake } from '../helpers/s3-fake.ts';
import { startVersitygw, VERSITYGW_KEYS, versitygwPath } from '../helpers/versitygw.ts';
import { WEBDAV_SERVERS } from '../helpers/webdav-servers.ts';
import { type FilesPeer, itKeepsFiles } from './destination-files.ts';

type Options = Parameters<FilesPeer['createFiles']>[1];

function s3Files(port: number, credentials: { accessKeyId: string; secretAccessKey: string }, { access, limitMs }: Options = {}) {
  return createS3Files({
    endpoint: `http://127.0.0.1:${port}`,
    region: 'us-east-1',
    bucket: BUCKET,
    key: 'not used',
    forcePathStyle: true,
    concurrency: 1,
    checksum: 'None',
    sha256Object: false,
    ifNotExists: false,
    credentials: async () => credentials,
    access: access ?? createNetworkAccess(),
    clock: systemClock,
    buffers: createBufferPool(128 * 1024 * 1024),
    limits: {
      backoffMs: 10,
      lateMs: 0,
      tries: 2,
      ...(limitMs === undefined ? {} : { silentMs: limitMs, connectMs: limitMs, readBackMs: 5000 }),
    },
  });
}

function httpFiles(port: number, createCollections: boolean, { access, limitMs }: Options = {}) {
  return createHttpFiles({
    url: `http://127.0.0.1:${port}/images/a.qcow2`,
    method: 'PUT',
    createCollections,
    access: access ?? createNetworkAccess(),
    clock: systemClock,
    limits: limitMs === undefined ? {} : { connectMs: limitMs, queryMs: limitMs, idleMs: limitMs, continueMs: limitMs, answerMs: limitMs },
  });
}

const KEYS = ['a b/ä.json', 'a b/c/d'] as const;
const PATHS = ['/a%20b/x.json', '/c/d/e'] as const;

describe('files at a destination', () => {
  describe('S3', () => {
    itKeepsFiles({
      places: KEYS,
      illegal: '../other/a',
      async start() {
        const fake = await startS3Fake({ secret: SECRET });
        return {
          port: Number(new URL(fake.url).port),
          createFiles: (port, options) => s3Files(port, { accessKeyId: 'AKIA', secretAccessKey: SECRET }, options),
          [Symbol.asyncDispose]: () => fake[Symbol.asyncDispose](),
        };
      },
    });
  });

  describe('S3 at versitygw', () => {
    itKeepsFiles({
      places: KEYS,
      illegal: 'x'.repeat(1025),
      async start(directory) {
        if (!existsSync(versitygwPath())) return undefined;
        mkdirSync(directory, { recursive: true });
        const server = await startVersitygw(directory, BUCKET);
        return {
          port: server.port,
          createFiles: (port, options) => s3Files(port, VERSITYGW_KEYS, options),
          [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
        };
      },
    });
  });

  describe('HTTP at nginx', () => {
    itKeepsFiles({
      places: PATHS,
      illegal: '/a/../b',
      async start(directory) {
        mkdirSync(directory, { recursive: true });
        const server = await startNginx(directory, 'dav_methods PUT; create_full_put_path on; client_max_body_size 0;');
        return {
          port: Number(new URL(server.url).port),
          createFiles: (port, options) => httpFiles(port, false, options),
          [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
        };
      },
    });
  });

  for (const dav of WEBDAV_SERVERS)
    describe(`HTTP at ${dav.name}`, () => {
      itKeepsFiles({
        places: PATHS,
        illegal: 'a',
        async start(directory) {
          if (!dav.isThere()) return undefined;
          const server = await dav.start(directory);
          return {
            port: server.port,
            createFiles: (port, options) => httpFiles(port, true, options),
            [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
          };
        },
      });
    });
});
