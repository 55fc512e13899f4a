/** The cost of exports for their process: delays of its event loop and memory. */

// Runs alone: it measures the delay of a process's event loop and its memory.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ExportProcessReport } from '../fixtures/export-process.ts';
import { startDrainingHttp, startDrainingReceiver, startDrainingS3, startDrainingTcp } from '../helpers/draining-sinks.ts';
import { startFaultProxy } from '../helpers/fault-proxy.ts';
import { imageNodeFlags } from '../helpers/image-node-flags.ts';
import { runCommand } from '../helpers/run-command.ts';
import { BUCKET } from '../helpers/s3-fake.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { createTestAuthority } from '../helpers/test-authority.ts';
import { requireVersitygw, startVersitygw, type Versitygw } from '../helpers/versitygw.ts';

const PROCESS = fileURLToPath(new URL('../fixtures/export-process.ts', import.meta.url));
const MIB = 1024 * 1024;

/** Other processes on the same cores make a delay longer, and never shorter; some need a core for seconds. */
const MEASUREMENTS = 6;
const PAUSE_MS = 2000;

async function exportTo(diskPath: string, destinations: readonly string[], caFile?: string): Promise<ExportProcessReport> {
  const env = caFile === undefined ? {} : { NODE_EXTRA_CA_CERTS: caFile };
  const { code, stdout, stderr } = await runCommand(process.execPath, [...imageNodeFlags(), PROCESS, diskPath, ...destinations], {
    env,
  });
  assert.equal(code, 0, stderr);
  const report = JSON.parse(stdout.toString()) as ExportProcessReport;
  assert.deepEqual(
    report.phases,
    destinations.map(() => 'Succeeded'),
    report.failures.join('; '),
  );
  return report;
}

describe('exports and the process that makes them', () => {
  const temp = useTempDir();
  let s3: Versitygw;
  before(function () {
    requireVersitygw(this);
  });
  beforeEach(async () => {
    s3 = await startVersitygw(temp('objects'), BUCKET);
  });
  afterEach(() => s3?.[Symbol.asyncDispose]());

  const createDataDisk = (dataBytes: number) =>
    createDisk(temp('a.img'), 2 * dataBytes, [{ offsetBytes: 0, lengthBytes: dataBytes, content: 'random' }]);

  it('keep the event loop free and the memory small with four at once', async () => {
    const diskPath = await createDataDisk(256 * MIB);
    const reports: ExportProcessReport[] = [];
    while (reports.length < MEASUREMENTS && !reports.some(({ delayP99Ms }) => delayP99Ms < 50)) {
      if (reports.length > 0) await sleep(PAUSE_MS);
      await using http = await startDrainingHttp();
      await using raw = await startDrainingTcp();
      await using acknowledged = await startDrainingReceiver();
      reports.push(
        await exportTo(diskPath, [
          `http://127.0.0.1:${http.port}/a.qcow2`,
          `s3+http://127.0.0.1:${s3.port}/a.qcow2`,
          `tcp+raw://127.0.0.1:${raw.port}`,
          `tcp+acknowledged://127.0.0.1:${acknowledged.port}`,
        ]),
      );
    }
    assert.ok(
      reports.some(({ delayP99Ms }) => delayP99Ms < 50),
      JSON.stringify(reports),
    );
    for (const { peakMemoryBytes } of reports) assert.ok(peakMemoryBytes < 250e6, `${peakMemoryBytes} bytes`);
  });

  it('keep the memory small with four to S3 at once, over TLS', async () => {
    const diskPath = await createDataDisk(512 * MIB);
    const authority = await createTestAuthority(temp('.'));
    await using sink = await startDrainingS3(await authority.issue('sink', 'IP:127.0.0.1'));
    const destinations = ['a', 'b', 'c', 'd'].map((key) => `s3+https://127.0.0.1:${sink.port}/${key}.qcow2`);
    const { peakMemoryBytes } = await exportTo(diskPath, destinations, authority.caFile);
    assert.ok(peakMemoryBytes < 250e6, `${peakMemoryBytes} bytes`);
  });

  /** Peers, and the maximum memory of an export: chunks and the tail of a stream, or the parts of an S3 upload. */
  const slow = {
    'an HTTP server': {
      start: startDrainingHttp,
      url: (port: number) => `http://127.0.0.1:${port}/a.qcow2`,
      dataBytes: 64 * MIB,
      mostBytes: 16 * MIB,
    },
    'a TCP peer': {
      start: startDrainingTcp,
      url: (port: number) => `tcp+raw://127.0.0.1:${port}`,
      dataBytes: 64 * MIB,
      mostBytes: 16 * MIB,
    },
    'a receiver': {
      start: startDrainingReceiver,
      url: (port: number) => `tcp+acknowledged://127.0.0.1:${port}`,
      dataBytes: 64 * MIB,
      mostBytes: 16 * MIB,
    },
    S3: {
      start: async () => ({ port: s3.port, async [Symbol.asyncDispose]() {} }),
      url: (port: number) => `s3+http://127.0.0.1:${port}/a.qcow2`,
      dataBytes: 160 * MIB,
      mostBytes: 90 * MIB,
    },
  };
  for (const [name, { start, url, dataBytes, mostBytes }] of Object.entries(slow))
    it(`keep the memory small when the disk is faster than ${name}`, async () => {
      const diskPath = await createDataDisk(dataBytes);
      await using peer = await start();
      await using proxy = await startFaultProxy(peer.port, {
        kind: 'slow',
        direction: 'toServer',
        atByte: 0,
        bytesPerSecond: 30e6,
        everywhere: true,
      });
      const { bufferBytes } = await exportTo(diskPath, [url(proxy.port)]);
      assert.ok(bufferBytes < mostBytes, `${bufferBytes} bytes`);
    });
});
