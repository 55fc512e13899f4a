import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { NEVER } from '../helpers/image-in-process.ts';
import type { ListeningProcess } from '../helpers/listening-process.ts';
import { nameS3 } from '../helpers/remote-images.ts';
import { BUCKET } from '../helpers/s3-fake.ts';
import { requireS3Server, S3_SERVERS, SERVER_KEYS } from '../helpers/s3-servers.ts';
import { until } from '../helpers/until.ts';

const MIB = 1024 * 1024;
const CONTENT = randomBytes(3 * MIB);

for (const server of S3_SERVERS)
  describe(`an object by ranges at ${server.name}`, () => {
    let directory: string | undefined;
    let running: ListeningProcess;
    let client: S3Client;
    let endpoint: string;
    before(async function () {
      requireS3Server(server, this);
      directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-test-'));
      running = await server.start(directory);
      endpoint = `http://127.0.0.1:${running.port}`;
      const keys = { region: 'us-east-1', forcePathStyle: true, credentials: SERVER_KEYS };
      client = new S3Client({
        endpoint,
        ...keys,
        requestChecksumCalculation: 'WHEN_REQUIRED',
        responseChecksumValidation: 'WHEN_REQUIRED',
      });
      await until('the bucket is made', async () => {
        try {
          await client.send(new CreateBucketCommand({ Bucket: BUCKET }));
          return true;
        } catch (error) {
          return /Bucket.*Already/.test((error as Error).name);
        }
      });
    });
    after(async () => {
      client?.destroy();
      await running?.[Symbol.asyncDispose]();
      if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
    });

    const put = (key: string, bytes: Buffer) => client.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: bytes }));
    const named = (key: string) => nameS3(`s3://${BUCKET}/${key}`, { endpoint, keys: SERVER_KEYS });

    it('has the bytes of the object, also of one in a folder with spaces', async () => {
      await put('a folder/ä.bin', CONTENT);
      const { folder, path: key } = named('a folder/ä.bin');
      try {
        const file = await folder.open(key, NEVER);
        const bytes = Buffer.alloc(file.sizeBytes);
        await file.read(bytes, 0, NEVER);
        assert.ok(bytes.equals(CONTENT));
        assert.equal((await file.identity()).size, `${CONTENT.length}`);
      } finally {
        await folder.dispose();
      }
    });

    it('is not there, or has changed, with the code for that', async () => {
      const missing = named('missing.bin');
      try {
        await assert.rejects(missing.folder.open(missing.path, NEVER), { code: 'SourceNotFound' });
      } finally {
        await missing.folder.dispose();
      }
      await put('b.bin', CONTENT);
      const { folder, path: key } = named('b.bin');
      try {
        const file = await folder.open(key, NEVER);
        await put('b.bin', randomBytes(CONTENT.length));
        await assert.rejects(file.read(Buffer.alloc(1000), MIB, NEVER), { code: 'SourceChanged' });
        await assert.rejects(file.identity(), { code: 'SourceChanged' });
      } finally {
        await folder.dispose();
      }
    });
  });
