/** Real WebDAV servers as destinations. */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { MIB } from '../../src/common/bytes.ts';
import { systemClock } from '../../src/common/clock.ts';
import { DiskliftError } from '../../src/common/errors.ts';
import { digestImage } from '../../src/image/digest.ts';
import { createNetworkAccess } from '../../src/network/destination-policy.ts';
import type { Receipt, TransferContext } from '../../src/targets/contract.ts';
import { createHttpTarget, type HttpTargetOptions } from '../../src/targets/http/http-target.ts';
import { startFaultProxy } from '../helpers/fault-proxy.ts';
import { type ImageInProcess, NEVER, openImage } from '../helpers/image-in-process.ts';
import type { ListeningProcess } from '../helpers/listening-process.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { transferContext } from '../helpers/transfer-context.ts';
import { until } from '../helpers/until.ts';
import { LIMITED_SERVER, PLACING_SERVER, requireWebdavServer, WEBDAV_SERVERS } from '../helpers/webdav-servers.ts';

const CONTINUE_BYTES = 'HTTP/1.1 100 Continue\r\n\r\n'.length;

describe('WebDAV server as a destination', () => {
  const temp = useTempDir();
  let disk: string;
  let opened: ImageInProcess;
  beforeEach(async () => {
    disk = await createDisk(temp('a.img'), 32 * MIB, [{ offsetBytes: MIB, lengthBytes: 12 * MIB, content: 'random' }]);
    opened = await openImage(disk);
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  async function send(url: string, options: Partial<HttpTargetOptions> = {}, context: Partial<TransferContext> = {}) {
    const digested = digestImage(opened.image);
    const seal = async () => ({ sha256: await digested.sha256(NEVER) });
    const target = createHttpTarget({ url, method: 'PUT', access: createNetworkAccess(), clock: systemClock, ...options });
    return target.send(digested.image, transferContext({ seal, ...context }));
  }

  /** @returns the failure of `sending` */
  async function fails(sending: Promise<Receipt>): Promise<DiskliftError> {
    const error = await sending.then(
      () => assert.fail('no failure'),
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof DiskliftError, String(error));
    return error;
  }

  for (const server of WEBDAV_SERVERS)
    describe(server.name, () => {
      let running: ListeningProcess;
      let root: string;
      before(function () {
        requireWebdavServer(server, this);
      });
      beforeEach(async () => {
        root = temp('root');
        running = await server.start(root);
      });
      afterEach(() => running[Symbol.asyncDispose]());

      const urlOf = (name: string, port = running.port) => `http://127.0.0.1:${port}/${name}`;

      it('stores the image, as qemu-img confirms, and makes the folders above it on request', async () => {
        const url = urlOf('vms/fedora%20root/a.qcow2');
        const refused = await fails(send(url));
        assert.match(refused.message, /answered 40[49]: .*the folder http:.*\/vms\/fedora%20root\/ may not exist/);
        for (const proof of ['made', 'there']) {
          const receipt = await send(url, { createCollections: true });
          assert.deepEqual([receipt.location, receipt.proof], [url, 'status'], proof);
        }
        await assertImageOf(path.join(root, 'vms/fedora root/a.qcow2'), disk);
      });

      it('stores the image although its answer is lost, and reading back proves that', async () => {
        const fault = { kind: 'reset', direction: 'toClient', atByte: CONTINUE_BYTES + 1, connection: 0 } as const;
        await using proxy = await startFaultProxy(running.port, fault);
        const { proof, sizeBytes } = await send(urlOf('a.qcow2', proxy.port));
        assert.deepEqual([proof, sizeBytes], ['readBack', opened.image.sizeBytes]);
        await assertImageOf(path.join(root, 'a.qcow2'), disk);
        proxy.assertAllHappened();
      });

      it(`If-None-Match is ${server.ifNoneMatch}, and a second attempt finds its own image`, async () => {
        writeFileSync(path.join(root, 'a.qcow2'), 'old');
        const options = { ifNoneMatch: true };
        if (server.ifNoneMatch === 'ignored') {
          await send(urlOf('a.qcow2'), options);
          assert.equal(statSync(path.join(root, 'a.qcow2')).size, opened.image.sizeBytes);
          return;
        }
        assert.match((await fails(send(urlOf('a.qcow2'), options))).message, /answered 412: there is something at that place already/);
        assert.equal(readFileSync(path.join(root, 'a.qcow2'), 'utf8'), 'old');
        await send(urlOf('b.qcow2'), options);
        const again = await send(urlOf('b.qcow2'), options, { hasSentBefore: true });
        assert.equal(again.proof, 'readBack');
      });

      it(`the old file is ${server.onCut} when an upload over it is cut, and the next attempt succeeds`, async () => {
        const file = path.join(root, 'a.qcow2');
        writeFileSync(file, 'old');
        await using proxy = await startFaultProxy(running.port, { kind: 'end', direction: 'toServer', atByte: 6 * MIB });
        const failure = await fails(send(urlOf('a.qcow2', proxy.port)));
        assert.ok(failure.retryable, failure.message);
        const isKept = () => existsSync(file) && readFileSync(file, 'latin1') === 'old';
        // The server may notice the cut a little after its client.
        if (server.onCut === 'truncated') await until('the old file is truncated', () => !isKept());
        else assert.ok(isKept());
        // The next attempt succeeds in spite of the rest of the first one.
        await until('an attempt succeeds', async () => {
          const problem = await send(urlOf('a.qcow2'), {}, { hasSentBefore: true }).then(
            () => undefined,
            (error: DiskliftError) => error,
          );
          // rclone locks the file for as long as it has not noticed the cut.
          assert.ok(problem === undefined || (problem.retryable && /answered 423/.test(problem.message)), problem?.message);
          return problem === undefined;
        });
        await assertImageOf(file, disk);
      });
    });

  it('fails with a retryable error when it answers 405 because its disk is full', async function () {
    requireWebdavServer(LIMITED_SERVER, this);
    await using running = await LIMITED_SERVER.start(temp('root'), { maxFileKib: 5 * 1024 });
    const failure = await fails(send(`http://127.0.0.1:${running.port}/a.qcow2`));
    assert.match(
      failure.message,
      /answered 405: the server has taken bytes and could not store them; is its disk full\?|was (reset|closed)/,
    );
    assert.ok(failure.retryable, failure.message);
  });

  it('stores the image at another path than the existing disk, and the receipt names that path', async function () {
    requireWebdavServer(PLACING_SERVER, this);
    await using running = await PLACING_SERVER.start(temp('root'));
    const url = `http://127.0.0.1:${running.port}/a.qcow2`;
    mkdirSync(temp('root'), { recursive: true });
    writeFileSync(temp('root/a.qcow2'), 'another disk');
    const { location } = await send(url);
    assert.notEqual(location, url);
    assert.equal(readFileSync(temp('root/a.qcow2'), 'utf8'), 'another disk');
    const fetched = await fetch(location);
    writeFileSync(temp('fetched.qcow2'), Buffer.from(await fetched.arrayBuffer()));
    await assertImageOf(temp('fetched.qcow2'), disk);
  });
});
