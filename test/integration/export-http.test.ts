/** The engine and a real HTTP server: what arrives is the disk, whatever happened on the way. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { appendFile, writeFile } from 'node:fs/promises';
import type http from 'node:http';
import type net from 'node:net';
import { systemClock } from '../../src/common/clock.ts';
import { type ExportResult, runExport } from '../../src/engine/run-export.ts';
import { createHttpTarget } from '../../src/targets/http/http-target.ts';
import { createNetworkAccess } from '../../src/targets/policy/network-access.ts';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { DEFAULT_OPTIONS, NEVER, openSource } from '../helpers/image-in-process.ts';
import { NO_KEEPER } from '../helpers/no-keeper.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { createRandom, SEED, SEED_TEXT } from '../helpers/seed.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { createTestClock } from '../helpers/test-clock.ts';

const MIB = 1024 * 1024;
const PATH = '/a.qcow2';

type Exchange = (request: http.IncomingMessage, response: http.ServerResponse, atByte: number) => void;

/** Does `act` when the server has read so many bytes of a body. */
function whenRead(request: http.IncomingMessage, bytes: number, act: (socket: net.Socket) => void): void {
  let left = bytes;
  request.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) act(request.socket);
  });
}

const FAULTS: Record<string, Exchange> = {
  'close the connection': (request, _response, atByte) => whenRead(request, atByte, (socket) => socket.destroy()),
  'reset the connection': (request, _response, atByte) => whenRead(request, atByte, (socket) => socket.resetAndDestroy()),
  'answer 500 early': (request, response, atByte) => whenRead(request, atByte, () => response.headersSent || response.writeHead(500).end()),
  // So early that the rest is not in the kernel's buffers yet: from then on nobody could tell this answer from a right one.
  'answer 200 early': (request, response, atByte) =>
    whenRead(request, atByte / 8, () => response.headersSent || response.writeHead(200).end()),
  'answer 503 at the end': (request, response) => void request.resume().once('end', () => response.writeHead(503).end()),
  'close at the end': (request) => void request.resume().once('end', () => request.socket.destroy()),
};

describe('export to an HTTP server', function () {
  this.timeout(60_000);
  const temp = useTempDir();
  let disk: string;
  beforeEach(async () => {
    disk = await createDisk(temp('a.img'), 24 * MIB, [
      { offsetBytes: 100_000, lengthBytes: 5 * MIB, content: 'random' },
      { offsetBytes: 8 * MIB, lengthBytes: 2 * MIB, content: 'zeros' },
      { offsetBytes: 20 * MIB + 512, lengthBytes: 3 * MIB, content: 'random' },
    ]);
  });

  /** Waits between attempts take no time; those of the connection do. */
  function run(sink: HttpSink, backoffLimit: number, onAttempt: () => Promise<void> = async () => {}): Promise<ExportResult> {
    const plan = {
      path: 'a.img',
      qcow2: DEFAULT_OPTIONS,
      zeroDetection: 'content' as const,
      openSource: () => openSource(disk),
      createTarget: async () => {
        await onAttempt();
        return createHttpTarget({ url: sink.url + PATH, method: 'PUT', access: createNetworkAccess(), clock: systemClock });
      },
    };
    return runExport(
      { checksum: 'SHA256', backoffLimit, disks: [plan] },
      { signal: NEVER, keeper: NO_KEEPER, clock: createTestClock(), random: Math.random, warn: assert.fail, observer: {} },
    );
  }

  /** A server that treats each request as the next of `exchanges` says, and takes it when there is none. */
  function startFaultySink(exchanges: Exchange[], atByte: () => number): Promise<HttpSink> {
    let sink: HttpSink;
    const started = startHttpSink({
      onRequest(request, response) {
        const exchange = exchanges.shift();
        if (exchange !== undefined) return exchange(request, response, atByte());
        sink.take(request).then(
          () => response.writeHead(201).end(),
          () => {},
        );
      },
    });
    return started.then((value) => {
      sink = value;
      return value;
    });
  }

  async function assertArrived(sink: HttpSink, { phase, disks, failure }: ExportResult): Promise<void> {
    assert.equal(phase, 'Succeeded', failure?.message);
    const body = sink.complete.get(PATH) ?? assert.fail('nothing arrived');
    assert.equal(disks[0]?.receipt?.sha256, createHash('sha256').update(body).digest('hex'));
    assert.equal(disks[0]?.receipt?.sizeBytes, body.length);
    await writeFile(temp('arrived.qcow2'), body);
    await assertImageOf(temp('arrived.qcow2'), disk);
  }

  for (const [name, exchange] of Object.entries(FAULTS))
    it(`succeeds at the second attempt when the first made the server ${name}`, async () => {
      await using sink = await startFaultySink([exchange], () => 3 * MIB);
      const result = await run(sink, 1);
      assert.equal(result.disks[0]?.attempts, 2);
      await assertArrived(sink, result);
    });

  it('begins anew with a disk that changed, and the server never holds a mixture', async () => {
    await using sink = await startHttpSink();
    let attempts = 0;
    const result = await run(sink, 1, async () => {
      attempts += 1;
      // Behind the scan, in front of the transfer.
      if (attempts === 1) await appendFile(disk, Buffer.alloc(MIB, 7));
      else assert.equal(sink.complete.size, 0, 'the first attempt has left something complete');
    });
    assert.equal(attempts, 2);
    await assertArrived(sink, result);
  });

  it(`ends right or with a reason over 60 exports with faults at random ${SEED_TEXT}`, async () => {
    const random = createRandom(SEED);
    const faults = Object.entries(FAULTS);
    const ends = { Succeeded: 0, Failed: 0, Cancelled: 0, Pending: 0 };
    for (let round = 0; round < 60; round += 1) {
      const chosen = Array.from({ length: Math.floor(random() * 4) }, () => faults[Math.floor(random() * faults.length)] ?? assert.fail());
      await using sink = await startFaultySink(
        chosen.map(([, exchange]) => exchange),
        () => Math.floor(random() * 8 * MIB),
      );
      const result = await run(sink, 2);
      ends[result.phase] += 1;
      const story = chosen.map(([name]) => name).join(', ');
      assert.equal(result.phase, chosen.length > 2 ? 'Failed' : 'Succeeded', `${story}: ${result.failure?.message}`);
      if (result.phase === 'Succeeded') {
        const body = sink.complete.get(PATH) ?? assert.fail(`nothing arrived: ${story}`);
        assert.equal(result.disks[0]?.receipt?.sha256, createHash('sha256').update(body).digest('hex'), story);
      } else {
        assert.equal(sink.complete.size, 0, story);
        assert.match(result.failure?.message ?? '', /\(after 3 attempts\)$/, story);
      }
    }
    assert.ok(ends.Succeeded > 0 && ends.Failed > 0, JSON.stringify(ends));
  });
});
