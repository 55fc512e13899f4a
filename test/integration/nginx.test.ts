import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { MIB } from '../../src/common/bytes.ts';
import { systemClock } from '../../src/common/clock.ts';
import { DiskliftError, type ErrorCode } from '../../src/common/errors.ts';
import { digestImage } from '../../src/image/digest.ts';
import { createNetworkAccess } from '../../src/network/destination-policy.ts';
import { createHttpTarget, type HttpTargetOptions } from '../../src/targets/http/http-target.ts';
import { type ImageInProcess, NEVER, openImage } from '../helpers/image-in-process.ts';
import { type Nginx, startNginx } from '../helpers/nginx.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { transferContext } from '../helpers/transfer-context.ts';

const LOCATIONS = `
client_max_body_size 0;
location / { dav_methods PUT; }
location /small/ { dav_methods PUT; client_max_body_size 1m; }
location /private/ { dav_methods PUT; auth_basic "disks"; auth_basic_user_file DIRECTORY/users; }
location /elsewhere/ { return 307 /disks/moved.qcow2; }
`;

describe('nginx as a destination', () => {
  const temp = useTempDir();
  let disk: string;
  let opened: ImageInProcess;
  let nginx: Nginx;
  beforeEach(async () => {
    disk = await createDisk(temp('a.img'), 64 * MIB, [{ offsetBytes: MIB, lengthBytes: 20 * MIB, content: 'random' }]);
    opened = await openImage(disk);
    writeFileSync(temp('users'), 'backup:{PLAIN}planted-secret\n');
    nginx = await startNginx(temp(''), LOCATIONS);
    for (const name of ['disks', 'small', 'private']) mkdirSync(nginx.file(name));
  });
  afterEach(async () => {
    await nginx[Symbol.asyncDispose]();
    await opened[Symbol.asyncDispose]();
  });

  function targetOf(path: string, options: Partial<HttpTargetOptions> = {}) {
    const url = nginx.url + path;
    return createHttpTarget({ url, method: 'PUT', access: createNetworkAccess(), clock: systemClock, ...options });
  }

  it('puts an image on its disk, as qemu-img confirms', async () => {
    const digested = digestImage(opened.image);
    const seal = async () => ({ sha256: await digested.sha256(NEVER) });
    const receipt = await targetOf('/disks/a.qcow2').send(digested.image, transferContext({ seal }));
    assert.deepEqual(receipt, {
      location: `${nginx.url}/disks/a.qcow2`,
      sizeBytes: opened.image.sizeBytes,
      sha256: (await seal()).sha256,
      proof: 'status',
    });
    await assertImageOf(nginx.file('disks/a.qcow2'), disk);
    assert.deepEqual(readdirSync(temp('body')), []);
  });

  it('follows a redirect, and authenticates with the given header', async () => {
    await targetOf('/elsewhere/').send(opened.image, transferContext());
    await assertImageOf(nginx.file('disks/moved.qcow2'), disk);
    const headers = { Authorization: `Basic ${Buffer.from('backup:planted-secret').toString('base64')}` };
    await targetOf('/private/a.qcow2', { headers }).send(opened.image, transferContext());
    await assertImageOf(nginx.file('private/a.qcow2'), disk);
  });

  it('replaces an existing file in spite of If-None-Match', async () => {
    writeFileSync(nginx.file('disks/a.qcow2'), 'old');
    await targetOf('/disks/a.qcow2', { ifNoneMatch: true }).send(opened.image, transferContext());
    await assertImageOf(nginx.file('disks/a.qcow2'), disk);
  });

  it('keeps the existing file when sealing the image fails', async () => {
    writeFileSync(nginx.file('disks/a.qcow2'), 'old');
    const seal = () => Promise.reject(new DiskliftError('SourceChanged', 'changed'));
    await assert.rejects(targetOf('/disks/a.qcow2').send(opened.image, transferContext({ seal })), /changed/);
    assert.equal(readdirSync(nginx.file('disks')).join(), 'a.qcow2');
  });

  interface Refusal {
    what: string;
    path: string;
    options?: Partial<HttpTargetOptions>;
    code: ErrorCode;
    message: RegExp;
    retryable?: boolean;
    /** Whether nginx refuses before it has the body. */
    beforehand: boolean;
  }

  const refusals: Refusal[] = [
    {
      what: 'an image that is too large',
      path: '/small/a.qcow2',
      code: 'DestinationRejected',
      message: /413: the image/,
      beforehand: true,
    },
    {
      what: 'somebody without credentials',
      path: '/private/a.qcow2',
      code: 'CredentialsInvalid',
      message: /401: the credentials/,
      beforehand: true,
    },
    {
      what: 'a method that it does not know',
      path: '/disks/a.qcow2',
      options: { method: 'POST' },
      code: 'DestinationRejected',
      message: /answered 405/,
      beforehand: true,
    },
    // nginx reads the body first, and then reports an error of its own.
    {
      what: 'a directory that is not there',
      path: '/nowhere/a.qcow2',
      code: 'DestinationRejected',
      message: /answered 500/,
      retryable: true,
      beforehand: false,
    },
  ];
  for (const { what, path, options, code, message, retryable = false, beforehand } of refusals)
    it(`refuses ${what}`, async () => {
      writeFileSync(nginx.file('disks/a.qcow2'), 'old');
      let sentBytes = 0;
      const context = transferContext({
        progress: (bytes) => {
          sentBytes = bytes;
        },
      });
      await assert.rejects(targetOf(path, options).send(opened.image, context), (error) => {
        assert.ok(error instanceof DiskliftError, String(error));
        assert.match(error.message, message);
        assert.deepEqual([error.code, error.retryable], [code, retryable]);
        return true;
      });
      assert.equal(sentBytes, beforehand ? 0 : opened.image.sizeBytes);
      assert.deepEqual(readdirSync(temp('files'), { recursive: true }).sort(), ['disks', 'disks/a.qcow2', 'private', 'small']);
    });

  it('also refuses without Expect: 100-continue', async () => {
    // Without `Expect` nginx answers late, and closes the connection while bytes are under way.
    for (let round = 0; round < 10; round += 1)
      await assert.rejects(
        targetOf('/small/a.qcow2', { limits: { continueMs: 0 } }).send(opened.image, transferContext()),
        /answered 413: the image is too large/,
      );
  });
});
