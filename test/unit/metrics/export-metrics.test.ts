import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { DiskliftError } from '../../../src/common/errors.ts';
import { type DiskState, newDiskState } from '../../../src/engine/observer.ts';
import { runExport } from '../../../src/engine/run-export.ts';
import { METRICS } from '../../../src/metrics/catalogue.ts';
import { createExportMetrics, type ExportMetrics } from '../../../src/metrics/export-metrics.ts';
import type { ExportTarget } from '../../../src/targets/contract.ts';
import { DEFAULT_OPTIONS, NEVER, openSource } from '../../helpers/image-in-process.ts';
import { createDisk } from '../../helpers/sparse-disk.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { createTestClock, type TestClock } from '../../helpers/test-clock.ts';
import { UNCONTESTED_CLAIM } from '../../helpers/uncontested-claim.ts';

const MIB = 1024 * 1024;
const OBSERVED = { namespace: 'vms', name: 'nightly', destination: 'HTTP' } as const;

/** The series of a scrape, with their values. */
async function scrape(metrics: ExportMetrics): Promise<Map<string, number>> {
  const { text } = await metrics.scrape('prometheus');
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
}

const series = (name: string, more = '') => `disklift_${name}{export_namespace="vms",export="nightly",disk="a.img"${more}}`;

const ended = (result: string, reason: string) =>
  `disklift_export_end_timestamp_seconds{export_namespace="vms",export="nightly",destination="HTTP",result="${result}",reason="${reason}"}`;

describe('export metrics', () => {
  const temp = useTempDir();
  let clock: TestClock;
  let metrics: ExportMetrics;
  /** Ends the time for which the series of the n-th export stay. */
  let forget: (() => Promise<void>)[];
  beforeEach(() => {
    clock = createTestClock();
    forget = [];
    metrics = createExportMetrics({ version: '1.2.3', clock: { ...clock, delay: delayUntilTold }, retentionMs: 900_000, signal: NEVER });
  });

  function delayUntilTold(delayMs: number): Promise<void> {
    assert.equal(delayMs, 900_000);
    const { promise, resolve } = Promise.withResolvers<void>();
    forget.push(async () => {
      resolve();
      await promise;
      await nextTurn();
    });
    return promise;
  }

  /**
   * Runs an export of one disk: 33 clusters of data, 16 of zeros, the rest holes, and a last cluster that is a part of
   * one.
   */
  async function run(send: ExportTarget['send']) {
    const file = await createDisk(temp('a.img'), 8 * MIB + 1000, [
      { offsetBytes: MIB, lengthBytes: 2 * MIB, content: 'random' },
      { offsetBytes: 4 * MIB, lengthBytes: MIB, content: 'zeros' },
      { offsetBytes: 8 * MIB, lengthBytes: 1000, content: 'random' },
    ]);
    const meter = metrics.begin(OBSERVED);
    const disk = {
      path: 'a.img',
      qcow2: DEFAULT_OPTIONS,
      zeroDetection: 'content' as const,
      openSource: () => openSource(file),
      createTarget: async () => ({ send, abandon: async () => {} }),
    };
    const { phase, disks, failure } = await runExport(
      { checksum: 'None', backoffLimit: 3, disks: [disk] },
      { signal: NEVER, claim: UNCONTESTED_CLAIM, clock, random: () => 0.5, warn: assert.fail, observer: meter.observer },
    );
    meter.end(phase, failure);
    return { phase, imageBytes: disks[0]?.imageBytes as number };
  }

  const arrive: ExportTarget['send'] = async (image, { signal, progress, seal }) => {
    let sentBytes = 0;
    for await (const chunk of image.stream({ signal })) {
      sentBytes += chunk.length;
      progress(sentBytes);
    }
    await seal();
    return { location: 'memory', sizeBytes: sentBytes, proof: 'status' };
  };

  it('count the clusters that were scanned, skipped and written', async () => {
    const { imageBytes } = await run(arrive);
    const values = await scrape(metrics);
    assert.equal(values.get(series('scanned_clusters_total')), 129);
    assert.equal(values.get(series('skipped_clusters_total', ',reason="hole"')), 129 - 33 - 16);
    assert.equal(values.get(series('skipped_clusters_total', ',reason="zero"')), 16);
    assert.equal(values.get(series('written_clusters_total', ',kind="data"')), 33);
    assert.equal(values.get(series('written_clusters_total', ',kind="metadata"')), imageBytes / 65_536 - 33);
    // Zeros are read to be found, and data to be sent; the scan reads as much of the data as the page cache does not
    // show.
    const readBytes = values.get(series('source_read_bytes_total')) ?? 0;
    assert.ok(readBytes >= 3 * MIB + 1000 && readBytes <= 5 * MIB + 2000, `${readBytes}`);
    assert.equal(values.get(series('sent_bytes_total')), imageBytes);
    assert.equal(values.get(series('export_progress_ratio')), 1);
    assert.equal(values.get(ended('Succeeded', 'Completed')), clock.nowMs() / 1000);
  });

  it('tell when bytes last moved, while they do', async () => {
    const lastProgress = async () => (await scrape(metrics)).get(series('export_last_progress_timestamp_seconds'));
    let calls = 0;
    await run(async (_image, context) => {
      calls += 1;
      const startMs = clock.nowMs();
      assert.equal(await lastProgress(), startMs / 1000, 'the transfer has begun');
      await clock.delay(5000, NEVER);
      assert.equal(await lastProgress(), startMs / 1000);
      context.progress(MIB);
      assert.equal(await lastProgress(), (startMs + 5000) / 1000);
      if (calls === 1) throw new DiskliftError('DestinationUnreachable', 'away');
      await context.seal();
      assert.equal(await lastProgress(), undefined, 'the destination has the word');
      throw new DiskliftError('DestinationRejected', 'no');
    });
    assert.equal(await lastProgress(), undefined, 'it has ended');
    assert.equal((await scrape(metrics)).get(ended('Failed', 'DestinationRejected')), clock.nowMs() / 1000);
  });

  it('count what every attempt has sent, and why it was made again', async () => {
    let calls = 0;
    const { imageBytes } = await run(async (image, context) => {
      calls += 1;
      if (calls === 3) return arrive(image, context);
      context.progress(MIB);
      throw new DiskliftError('DestinationUnreachable', 'away');
    });
    const values = await scrape(metrics);
    assert.equal(values.get(series('sent_bytes_total')), 2 * MIB + imageBytes);
    assert.equal(values.get(series('scanned_clusters_total')), 129, 'an unchanged disk is scanned once');
    assert.equal(values.get(series('skipped_clusters_total', ',reason="zero"')), 16);
    assert.equal(values.get('disklift_retries_total{destination="HTTP",reason="DestinationUnreachable"}'), 2);
  });

  it('tell the results, the time and how many run', async () => {
    const fail = () => Promise.reject(new DiskliftError('DestinationRejected', 'no'));
    await run(async (image, context) => {
      assert.equal((await scrape(metrics)).get('disklift_exports_active'), 1);
      await clock.delay(20_000, NEVER);
      return arrive(image, context);
    });
    await run(fail);
    const values = await scrape(metrics);
    assert.equal(values.get('disklift_exports_active'), 0);
    assert.equal(values.get('disklift_exports_total{destination="HTTP",result="Succeeded"}'), 1);
    assert.equal(values.get('disklift_exports_total{destination="HTTP",result="Failed"}'), 1);
    assert.equal(values.get('disklift_exports_total{destination="S3",result="Failed"}'), 0, 'there before anything has failed');
    assert.equal(values.get('disklift_export_duration_seconds_sum{destination="HTTP",result="Succeeded"}'), 20);
    assert.equal(values.get('disklift_export_duration_seconds_bucket{le="15",destination="HTTP",result="Succeeded"}'), 0);
    assert.equal(values.get('disklift_export_duration_seconds_bucket{le="60",destination="HTTP",result="Succeeded"}'), 1);
    assert.equal(values.get('disklift_build_info{version="1.2.3"}'), 1);
  });

  it('forget an export, and keep the totals', async () => {
    await run(arrive);
    await forget[0]?.();
    const names = [...(await scrape(metrics)).keys()];
    assert.deepEqual(
      names.filter((name) => name.includes('nightly')),
      [],
    );
    assert.ok(names.includes('disklift_exports_total{destination="HTTP",result="Succeeded"}'));
  });

  it('keep the series of an export that was begun once more', async () => {
    await run(arrive);
    const { imageBytes } = await run(arrive);
    await forget[0]?.();
    assert.equal((await scrape(metrics)).get(series('sent_bytes_total')), imageBytes, 'of the second alone');
    await forget[1]?.();
    assert.equal((await scrape(metrics)).get(series('sent_bytes_total')), undefined);
  });

  it('keep the series of no more disks than a scrape should carry, the last ones', async () => {
    for (let index = 0; index < 1002; index += 1) {
      const { observer, end } = metrics.begin({ ...OBSERVED, name: `e${index}` });
      observer.onChange?.(newDiskState({ path: 'a.img', qcow2: DEFAULT_OPTIONS }));
      end('Failed', new DiskliftError('DestinationRejected', 'no'));
    }
    const names = [...(await scrape(metrics)).keys()];
    const ended = names.filter((name) => name.startsWith('disklift_export_end_timestamp_seconds'));
    assert.deepEqual([ended.length, ended[0]?.includes('"e2"'), ended.at(-1)?.includes('"e1001"')], [1000, true, true]);
    assert.equal(names.filter((name) => name.startsWith('disklift_sent_bytes_total')).length, 1000);
  });

  it('are up to date in a scrape while an export runs', async () => {
    const { observer } = metrics.begin(OBSERVED);
    const state = newDiskState({ path: 'a.img', qcow2: DEFAULT_OPTIONS });
    observer.onChange?.(state);
    Object.assign(state, { phase: 'Streaming', virtualBytes: MIB, scannedBytes: MIB, imageBytes: MIB });
    observer.onChange?.(state);
    state.sentBytes = MIB / 4;
    const values = await scrape(metrics);
    assert.deepEqual([values.get(series('sent_bytes_total')), values.get(series('export_progress_ratio'))], [MIB / 4, 0.25]);
    state.sentBytes = MIB / 2;
    assert.equal((await scrape(metrics)).get(series('sent_bytes_total')), MIB / 2);
  });

  it('tell when it was last known which requests there are', async () => {
    const lastSuccess = async () => (await scrape(metrics)).get('disklift_watch_last_success_timestamp_seconds');
    assert.equal(await lastSuccess(), 0);
    metrics.watchSucceeded(clock.nowMs());
    assert.equal(await lastSuccess(), clock.nowMs() / 1000);
  });

  it('are there before anything has happened, where label values are known', async () => {
    const values = await scrape(metrics);
    assert.equal(values.get('disklift_retries_total{destination="TCP",reason="ChecksumMismatch"}'), 0);
    assert.equal(values.get('disklift_export_duration_seconds_count{destination="S3",result="Cancelled"}'), 0);
    assert.equal(values.get('disklift_images_total{destination="S3",type="Full",reason="BaseMissing"}'), 0);
  });

  it('count images of incremental exports by type and reason when they have arrived', async () => {
    const { observer } = metrics.begin(OBSERVED);
    const state = (path: string) => newDiskState({ path, qcow2: DEFAULT_OPTIONS });
    const base = { location: 's3://b/a', sha256: 'ab' };
    const incremental: DiskState = { ...state('a'), imageType: { type: 'Incremental', reason: 'BlockHashes', base }, changedBytes: 4096 };
    observer.onChange?.({ ...incremental, phase: 'Verifying' });
    observer.onChange?.({ ...incremental, phase: 'Succeeded' });
    observer.onChange?.({ ...state('b'), imageType: { type: 'Full', reason: 'BaseChanged', message: 'm' }, phase: 'Succeeded' });
    observer.onChange?.({ ...state('c'), imageType: { type: 'Full', reason: 'BaseChanged', message: 'm' }, phase: 'Failed' });
    observer.onChange?.({ ...state('d'), phase: 'Succeeded' });
    const values = await scrape(metrics);
    const images = [...values].filter(([name, value]) => name.startsWith('disklift_images_total') && value > 0);
    assert.deepEqual(images, [
      ['disklift_images_total{destination="HTTP",type="Full",reason="BaseChanged"}', 1],
      ['disklift_images_total{destination="HTTP",type="Incremental",reason="BlockHashes"}', 1],
    ]);
    assert.equal(values.get('disklift_incremental_changed_bytes_total{destination="HTTP"}'), 4096);
  });

  it('tell of exports that wait, and of the last success of each claim, also when its export is gone', async () => {
    const claim = 'disklift_last_success_timestamp_seconds{export_namespace="vms",claim="root"}';
    assert.equal((await scrape(metrics)).get('disklift_exports_unclaimed'), 0);
    metrics.serves('vms', 'root');
    assert.equal((await scrape(metrics)).get(claim), 0);
    const successes = [3000, 9000, 6000].map((timeMs) => ({ namespace: 'vms', claim: 'root', timeMs }));
    metrics.count({ pending: 2, unclaimed: 1, successes });
    metrics.serves('vms', 'root');
    metrics.count({ pending: 1, unclaimed: 0, successes: [] });
    const values = await scrape(metrics);
    assert.deepEqual([values.get('disklift_exports_pending'), values.get('disklift_exports_unclaimed'), values.get(claim)], [1, 0, 9]);
  });

  it('tell of the process where that is wanted', async () => {
    const ofProcess = createExportMetrics({ version: '1', clock, retentionMs: 1, signal: NEVER, ofProcess: true });
    const values = await scrape(ofProcess);
    assert.ok((values.get('process_resident_memory_bytes') ?? 0) > MIB);
    assert.ok(values.has('nodejs_eventloop_lag_p99_seconds'));
    assert.ok(![...(await scrape(metrics)).keys()].some((name) => name.startsWith('process_')));
  });

  it('count no end of an export that another process goes on with', async () => {
    metrics.begin(OBSERVED).end('Pending');
    const values = await scrape(metrics);
    assert.equal(values.get('disklift_exports_active'), 0);
    for (const [name, value] of values) if (name.startsWith('disklift_exports_total')) assert.equal(value, 0, name);
  });

  it('are named as Prometheus asks for', () => {
    for (const { type, name, help, unit } of Object.values(METRICS)) {
      if (['bytes', 'seconds', 'ratio', 'clusters'].includes(unit)) assert.ok(name.replace(/_total$/, '').endsWith(`_${unit}`), name);
      assert.match(name, /^[a-z][a-z_]*$/);
      assert.equal(name.endsWith('_total'), type === 'counter', name);
      assert.match(help, /^[A-Z].*\.$/, name);
    }
  });
});
