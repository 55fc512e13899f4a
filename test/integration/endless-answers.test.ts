/**
 * Destinations that answer with 100 MiB where a few hundred bytes are expected: the memory of the process, and the end
 * of the export.
 */

// Runs alone: it measures how much memory a process takes.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { stringify } from 'yaml';
import { flood } from '../helpers/endless-answer.ts';
import { startHttpSink } from '../helpers/http-sink.ts';
import { credentialsSecret, diskExport } from '../helpers/manifest.ts';
import { peakMemoryBytes } from '../helpers/process-memory.ts';
import { type Quirk, startS3Fake } from '../helpers/s3-fake.ts';
import { s3InParts } from '../helpers/s3-in-parts.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;
const BIN = path.join(import.meta.dirname, '..', '..', 'src', 'bin.ts');

/** How much more a flood may cost than an answer of the usual length. */
const MAX_GROWTH_BYTES = 40 * MIB;

describe('disklift export to a destination whose answer has 100 MiB', function () {
  this.timeout(120_000);
  const temp = useTempDir();
  beforeEach(async () => {
    await mkdir(temp('volume'));
    await createDisk(temp('volume/a.img'), 16 * MIB, [{ offsetBytes: MIB, lengthBytes: 12 * MIB, content: 'random' }]);
  });

  async function run(destination: object) {
    const manifests = [
      diskExport('nightly', destination, { backoffLimit: 0 }),
      credentialsSecret('keys', { accessKeyId: 'AKIA', secretKey: 'wJalrXUtnFEMI' }),
    ];
    await writeFile(temp('request.yaml'), manifests.map((each) => stringify(each)).join('---\n'));
    const args = [BIN, 'export', '-f', temp('request.yaml'), '--volume', `claim=${temp('volume')}`];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    let peakBytes = 0;
    const timer = setInterval(() => {
      try {
        peakBytes = Math.max(peakBytes, peakMemoryBytes(child.pid) || 0);
      } catch {
        // It has ended.
      }
    }, 5);
    const [code] = (await once(child, 'close')) as [number];
    clearInterval(timer);
    return { code, stderr, peakBytes };
  }

  async function runS3(...quirks: Quirk[]) {
    await using fake = await startS3Fake();
    fake.quirks.push(...quirks);
    return { ...(await run(s3InParts(fake.url, 'disk.qcow2'))), floodBytes: fake.floodBytes() };
  }

  for (const operation of ['CreateMultipartUpload', 'UploadPart'] as const)
    it(`fails with a clear error and little memory: S3, ${operation}`, async () => {
      const usual = await runS3({ operation, does: { status: 400, code: 'InvalidArgument' } });
      const flooded = await runS3({ operation, does: 'flood' });
      assert.deepEqual([usual.code, flooded.code], [1, 1], flooded.stderr);
      assert.match(
        flooded.stderr,
        /DestinationRejected: .*: answered 200 with more than 256 KiB; does the endpoint belong to an S3 server\?/,
      );
      const grownBytes = flooded.peakBytes - usual.peakBytes;
      assert.ok(flooded.floodBytes > 0 && grownBytes < MAX_GROWTH_BYTES, `${grownBytes} bytes more, of ${flooded.peakBytes}`);
    });

  it('fails with a clear error and little memory: HTTP', async () => {
    const runHttp = async (isFlood: boolean) => {
      await using sink = await startHttpSink({
        onRequest(request, response) {
          const answer = () => (isFlood ? flood(response.writeHead(400)) : response.writeHead(400).end());
          sink.take(request).then(answer, () => {});
        },
      });
      return await run({ http: { url: `${sink.url}/a.qcow2` } });
    };
    const [usual, flooded] = [await runHttp(false), await runHttp(true)];
    assert.deepEqual([usual.code, flooded.code], [1, 1], flooded.stderr);
    assert.match(flooded.stderr, /DestinationRejected: .*: answered 400/);
    const grownBytes = flooded.peakBytes - usual.peakBytes;
    assert.ok(grownBytes < MAX_GROWTH_BYTES, `${grownBytes} bytes more, of ${flooded.peakBytes}`);
  });
});
