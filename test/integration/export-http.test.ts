/** Answers of an HTTP server that report no success, and the engine's reaction. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import type http from 'node:http';
import { stringify } from 'yaml';
import { systemClock } from '../../src/common/clock.ts';
import { createNetworkAccess } from '../../src/network/destination-policy.ts';
import { createHttpTarget } from '../../src/targets/http/http-target.ts';
import { disklift } from '../helpers/disklift.ts';
import { runEngine } from '../helpers/engine-run.ts';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { diskExport } from '../helpers/manifest.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;
const PATH = '/a.qcow2';

type Exchange = (request: http.IncomingMessage, response: http.ServerResponse) => void;

/** Answers when the server has read that many bytes of a body. */
function answerBehind(bytes: number, status: number): Exchange {
  return (request, response) => {
    let left = bytes;
    request.on('data', (chunk: Buffer) => {
      left -= chunk.length;
      if (left < 0 && !response.headersSent) response.writeHead(status).end();
    });
  };
}

const EXCHANGES: Record<string, Exchange> = {
  'answer 500 early': answerBehind(3 * MIB, 500),
  // Early enough that the rest is not in the kernel's buffers yet; a later answer could not be distinguished from a
  // right one.
  'answer 200 early': answerBehind(MIB / 4, 200),
  'answer 503 at the end': (request, response) => void request.resume().once('end', () => response.writeHead(503).end()),
};

describe('export to an HTTP server', () => {
  const temp = useTempDir();

  /** A server that handles the first request by `exchange`, and accepts the others. */
  async function startUnwilling(exchange: Exchange): Promise<HttpSink> {
    let requests = 0;
    const sink: HttpSink = await startHttpSink({
      onRequest(request, response) {
        requests += 1;
        if (requests === 1) return exchange(request, response);
        sink.take(request).then(
          () => response.writeHead(201).end(),
          () => {},
        );
      },
    });
    return sink;
  }

  for (const [name, exchange] of Object.entries(EXCHANGES))
    it(`succeeds at the second attempt when the first makes the server ${name}`, async () => {
      const diskPath = await createDisk(temp('a.img'), 24 * MIB, [{ offsetBytes: 100_000, lengthBytes: 9 * MIB, content: 'random' }]);
      await using sink = await startUnwilling(exchange);
      const { phase, disks, failure } = await runEngine({
        diskPath,
        backoffLimit: 1,
        createTarget: async () => {
          assert.equal(sink.complete.size, 0);
          return createHttpTarget({ url: sink.url + PATH, method: 'PUT', access: createNetworkAccess(), clock: systemClock });
        },
      });
      assert.equal(phase, 'Succeeded', failure?.message);
      assert.equal(disks[0]?.attempts, 2);
      const body = sink.complete.get(PATH) ?? assert.fail('nothing arrived');
      assert.equal(disks[0]?.receipt?.sha256, createHash('sha256').update(body).digest('hex'));
    });

  describe('by the command', () => {
    /** @returns the output of the command */
    async function run(http: object): Promise<{ code: number | null; stderr: string; stdout: string }> {
      mkdirSync(temp('volume'), { recursive: true });
      await createDisk(temp('volume/a.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 3 * MIB, content: 'random' }]);
      writeFileSync(temp('request.yaml'), stringify(diskExport('nightly', { http }, { backoffLimit: 0 })));
      const { code, stderr, stdout } = await disklift(['export', '-f', temp('request.yaml'), '--volume', `claim=${temp('volume')}`]);
      return { code, stderr: `${stderr}`, stdout: `${stdout}` };
    }

    it('makes the folders of the URL if the request asks for it', async () => {
      await using sink = await startHttpSink();
      const { code, stderr } = await run({ url: `${sink.url}/vms/{disk}.qcow2`, createCollections: true });
      assert.equal(code, 0, stderr);
      assert.deepEqual(
        sink.requests.map(({ method, url }) => `${method} ${url}`),
        ['MKCOL /vms/', 'PUT /vms/a.qcow2'],
      );
    });

    it('waits for the answer as long as the request allows, and then checks for the image', async () => {
      await using sink = await startHttpSink({
        onRequest: (request, response) => {
          if (request.method === 'PUT') return void request.resume();
          response.writeHead(404).end();
        },
      });
      const startMs = performance.now();
      const { code, stderr } = await run({ url: `${sink.url}/a.qcow2`, answerTimeoutSeconds: 1 });
      assert.equal(code, 1);
      assert.match(stderr, /DestinationUnreachable: .*no answer \(waited 1 s\); nothing is there \(after 1 attempt\)/);
      assert.ok(performance.now() - startMs > 1000);
    });

    it('finds the image after a proxy has timed out, and the status names the proof', async () => {
      let stored: Buffer = Buffer.alloc(0);
      await using sink: HttpSink = await startHttpSink({
        onRequest(request, response) {
          if (request.method === 'GET' || request.method === 'HEAD')
            return void response.writeHead(200, { 'Content-Length': stored.length }).end(stored);
          sink.take(request).then(
            (body) => {
              stored = body;
              response.writeHead(504).end();
            },
            () => {},
          );
        },
      });
      const { code, stderr, stdout } = await run({ url: `${sink.url}/a.qcow2` });
      assert.equal(code, 0, stderr);
      assert.match(stdout, /proof: ReadBack/);
    });
  });
});
