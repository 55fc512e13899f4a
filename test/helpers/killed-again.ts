/** A sidecar that is killed whenever one of its exports sends: that export must end, and the others must succeed. */

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { startHttpSink } from './http-sink.ts';
import { diskExport, type Manifest } from './manifest.ts';
import { startS3Fake } from './s3-fake.ts';
import { s3InParts } from './s3-in-parts.ts';
import type { Sidecar } from './sidecar.ts';
import { until } from './until.ts';

const KILL_AFTER_MS = 500;

/** A sidecar's start, the wait of up to 10 s of an export under suspicion, and the others that may run before it. */
const LIMIT_MS = 45_000;

const OTHERS = ['a', 'b'];
const NAMES = [...OTHERS, 'guilty'];

export interface KilledAgainStore {
  apply(manifest: Manifest): Promise<unknown>;
  statusOf(name: string): Promise<DiskExportStatus | undefined>;
  /** Starts a sidecar that runs three exports at a time. */
  start(): Promise<Sidecar>;
}

export async function assertOthersGetThrough({ apply, statusOf, start }: KilledAgainStore): Promise<void> {
  await using s3 = await startS3Fake();
  s3.quirks.push({ operation: 'UploadPart', does: 'hang' });
  // The others need longer than a process lives that also runs the export with the kill.
  await using sink = await startHttpSink({
    onRequest(request, response) {
      const answerLater = () => void setTimeout(() => response.writeHead(201).end(), 2 * KILL_AFTER_MS);
      sink.take(request).then(answerLater, () => {});
    },
  });
  for (const name of OTHERS) await apply(diskExport(name, { http: { url: `${sink.url}/{name}.qcow2` } }, { backoffLimit: 0 }));
  await apply(diskExport('guilty', s3InParts(s3.url, 'disk.qcow2'), { backoffLimit: 0 }));

  const statuses = () => Promise.all(NAMES.map(statusOf));
  const areDone = async () => (await statuses()).every((status) => status?.completionTime !== undefined);
  const counts: (number | undefined)[] = [];
  let sidecar = await start();
  try {
    for (let seen = 0; ; ) {
      await until('the export sends, or all have ended', async () => s3.count('UploadPart') > seen || (await areDone()), LIMIT_MS);
      if (await areDone()) break;
      await sleep(KILL_AFTER_MS);
      counts.push((await statusOf('guilty'))?.unfinishedRuns?.count);
      await sidecar.stop('SIGKILL');
      // Before the next start, because a process can send its only part before this test detects that it runs.
      seen = s3.count('UploadPart');
      sidecar = await start();
    }
    await until('the upload is dropped', () => s3.store.uploads.size === 0);
  } finally {
    await sidecar.stop('SIGKILL');
  }
  assert.deepEqual(counts, [1, 2, 3, 4]);
  const ended = await statuses();
  assert.deepEqual(
    ended.map((status) => status?.phase),
    ['Succeeded', 'Succeeded', 'Failed'],
    ended.map((status) => status?.message).join('; '),
  );
  const { message, conditions } = ended.at(-1) ?? {};
  assert.match(message ?? '', /^the process was lost 4 times in a row while it ran this export; find out why its container ended/);
  assert.equal(conditions?.find(({ type }) => type === 'Succeeded')?.reason, 'ExecutorCrashed');
}
