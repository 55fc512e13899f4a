/** An export that costs the process its life each time: it must end, and the others must get through. */

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { startHttpSink } from '../helpers/http-sink.ts';
import { credentialsSecret, diskExport } from '../helpers/manifest.ts';
import { startS3Fake } from '../helpers/s3-fake.ts';
import { s3InParts } from '../helpers/s3-in-parts.ts';
import { apply, type Sidecar, startSidecar, statusOf } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';

const MIB = 1024 * 1024;
const KILL_AFTER_MS = 500;

describe('a sidecar that is killed whenever one of its exports sends', function () {
  this.timeout(120_000);
  const temp = useTempDir();

  it('brings the other exports through, and fails this one after backoffLimit', async () => {
    const requests = temp('requests');
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 64 * MIB, [{ offsetBytes: MIB, lengthBytes: 12 * MIB, content: 'random' }]);
    await using s3 = await startS3Fake();
    s3.quirks.push({ operation: 'UploadPart', does: 'hang' });
    // The others need longer than the process lives while the export that costs its life runs beside them.
    await using sink = await startHttpSink({
      onRequest(request, response) {
        const answerLater = () => void setTimeout(() => response.writeHead(201).end(), 2 * KILL_AFTER_MS);
        sink.take(request).then(answerLater, () => {});
      },
    });
    const start = () => startSidecar({ requests, volumes: [`claim=${temp('volume')}`], flags: ['--max-concurrent-exports', '3'] });
    const keys = credentialsSecret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
    await mkdir(requests);
    const others = ['a', 'b'];
    for (const name of others) await apply(requests, diskExport(name, { http: { url: `${sink.url}/{name}.qcow2` } }, { backoffLimit: 0 }));
    await apply(requests, diskExport('guilty', s3InParts(s3.url, 'disk.qcow2'), { backoffLimit: 0 }), keys);

    const isDone = (name: string) => statusOf(requests, name)?.completionTime !== undefined;
    const areDone = () => [...others, 'guilty'].every(isDone);
    const counts: (number | undefined)[] = [];
    let sidecar: Sidecar = await start();
    try {
      for (let seen = 0; ; seen = s3.count('UploadPart')) {
        await until('the export sends, or all have ended', () => s3.count('UploadPart') > seen || areDone());
        if (areDone()) break;
        await sleep(KILL_AFTER_MS);
        counts.push(statusOf(requests, 'guilty')?.unfinishedRuns?.count);
        await sidecar.stop('SIGKILL');
        sidecar = await start();
      }
    } finally {
      await sidecar.stop('SIGKILL');
    }
    assert.deepEqual(counts, [1, 2, 3, 4]);
    assert.deepEqual(
      [...others, 'guilty'].map((name) => statusOf(requests, name)?.phase),
      ['Succeeded', 'Succeeded', 'Failed'],
    );
    const { message, conditions } = statusOf(requests, 'guilty') ?? {};
    assert.match(message ?? '', /^the process was lost 4 times in a row while it ran this export; find out why its container ended/);
    assert.equal(conditions?.find(({ type }) => type === 'Succeeded')?.reason, 'ExecutorCrashed');
    assert.equal(s3.store.uploads.size, 0, 'the upload is dropped');
  });
});
