/** A sidecar that is killed after an image has arrived, and before its tracker has moved. */

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { parseTracker } from '../../src/receipts/tracker.ts';
import { credentialsSecret, diskExport } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { type S3Fake, startS3Fake } from '../helpers/s3-fake.ts';
import { s3InParts } from '../helpers/s3-in-parts.ts';
import { apply, startSidecar, waitForStatus } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';

const MIB = 1024 * 1024;

describe('a sidecar that is killed by SIGKILL after an image has arrived', function () {
  this.timeout(90_000);
  const temp = useTempDir();
  let s3: S3Fake;
  const keys = credentialsSecret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
  beforeEach(async () => {
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 24 * MIB, [{ offsetBytes: MIB, lengthBytes: 20 * MIB, content: 'random' }]);
    s3 = await startS3Fake();
  });
  afterEach(() => s3[Symbol.asyncDispose]());

  const start = () => startSidecar({ requests: temp('requests'), volumes: [`claim=${temp('volume')}`] });

  // The image goes in parts; each file beside it is one PutObject.
  for (const [what, files, isSentAgain] of [
    ['its block hashes', 0, true],
    ['its receipt', 1, false],
    ['its tracker', 2, false],
  ] as const)
    it(`while the server stores ${what}: the next one ${isSentAgain ? 'sends the image again' : 'sends no image'}, and the tracker names it`, async () => {
      s3.quirks.push({ operation: 'PutObject', after: files, does: 'hang after' });
      const incremental = { tracker: 'latest.json' };
      const first = await start();
      await apply(temp('requests'), diskExport('one', s3InParts(s3.url, '{disk}.qcow2'), { receipt: true, incremental }), keys);
      await until('the file hangs', () => s3.count('PutObject') > files, 30_000);
      await first.stop('SIGKILL');
      s3.quirks.length = 0;
      const before = s3.requests.length;
      await using _second = await start();
      const status = await waitForStatus(temp('requests'), 'one');
      assert.equal(status.phase, 'Succeeded', status.message);
      assert.deepEqual([status.disks?.[0]?.type, status.disks?.[0]?.typeReason], ['Full', 'FirstImage']);
      const parts = s3.requests.slice(before).filter(({ operation }) => operation === 'UploadPart');
      assert.equal(parts.length > 0, isSentAgain);
      const { body } = s3.store.objects.get('disk.qcow2') ?? assert.fail('no image');
      await writeFile(temp('arrived.qcow2'), body);
      await assertImageOf(temp('arrived.qcow2'), temp('volume/disk.img'));
      const tracker = parseTracker(s3.store.objects.get('latest.json')?.body ?? assert.fail('no tracker'));
      assert.ok('value' in tracker && tracker.value.image.place === 'disk.qcow2');
      assert.equal(tracker.value.image.sha256, status.disks?.[0]?.sha256);
      assert.equal(s3.store.uploads.size, 0);
    });
});
