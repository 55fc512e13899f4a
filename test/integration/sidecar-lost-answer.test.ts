/** A sidecar that ends before the answer to a complete upload: the next one finds the image at the destination. */

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { diskExport } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { apply, startSidecar, statusOf, waitForStatus } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';

const MIB = 1024 * 1024;
const PATH = '/disk.qcow2';

describe('a sidecar that ends before the server has answered that the image is stored', function () {
  this.timeout(60_000);
  const temp = useTempDir();
  let requests: string;
  let server: HttpSink;
  beforeEach(async () => {
    requests = temp('requests');
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 16 * MIB, [{ offsetBytes: MIB, lengthBytes: 4 * MIB, content: 'random' }]);
    server = await startStore();
  });
  afterEach(() => server[Symbol.asyncDispose]());

  /** Replaces nothing, and never answers the upload that it stores. */
  async function startStore(): Promise<HttpSink> {
    const sink: HttpSink = await startHttpSink({
      onExpect: (request, response) => {
        if (sink.complete.has(PATH)) return response.writeHead(412).end();
        response.writeContinue();
        void sink.take(request).catch(() => {});
      },
      onRequest: ({ method }, response) => {
        const stored = sink.complete.get(PATH);
        if (stored === undefined) return response.writeHead(404).end();
        response.writeHead(200, { 'Content-Length': stored.length }).end(method === 'HEAD' ? undefined : stored);
      },
    });
    return sink;
  }

  const start = () => startSidecar({ requests, volumes: [`claim=${temp('volume')}`] });

  for (const signal of ['SIGKILL', 'SIGTERM'] as const)
    it(`by ${signal}: the next one recognizes its own image`, async () => {
      await using first = await start();
      await apply(requests, diskExport('once', { http: { url: `${server.url}/{disk}.qcow2`, ifNoneMatch: true } }));
      await until('the server has the image', () => server.complete.has(PATH));
      await first.stop(signal);
      assert.equal(statusOf(requests, 'once')?.completionTime, undefined);
      await using _second = await start();
      const status = await waitForStatus(requests, 'once');
      assert.deepEqual([status.phase, status.disks?.[0]?.proof], ['Succeeded', 'ReadBack'], status.message);
      await writeFile(temp('arrived.qcow2'), server.complete.get(PATH) ?? assert.fail('nothing has arrived'));
      await assertImageOf(temp('arrived.qcow2'), temp('volume/disk.img'));
    });
});
