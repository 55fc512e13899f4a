import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { MIB } from '../../../../src/common/bytes.ts';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { VirtualImage } from '../../../../src/image/contract.ts';
import { createNetworkAccess } from '../../../../src/network/destination-policy.ts';
import { createHttpTarget, type HttpTargetOptions } from '../../../../src/targets/http/http-target.ts';
import { type CdiUploadProxy, startCdiUploadProxy } from '../../../helpers/cdi-upload-proxy.ts';
import { type ImageInProcess, openImage } from '../../../helpers/image-in-process.ts';
import { assertImageOf } from '../../../helpers/qemu-img.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { createTestAuthority } from '../../../helpers/test-authority.ts';
import { transferContext } from '../../../helpers/transfer-context.ts';

const TOKEN = 'eyJhbGciOiJQUzUxMiJ9.planted.token';

describe("http target and CDI's upload proxy", () => {
  const temp = useTempDir();
  let disk: string;
  let opened: ImageInProcess;
  let proxy: CdiUploadProxy;
  let ca: string;
  beforeEach(async () => {
    const authority = await createTestAuthority(temp(''));
    ({ ca } = authority);
    const { certificate: cert, key } = await authority.issue('cdi-uploadproxy', 'IP:127.0.0.1');
    proxy = await startCdiUploadProxy({ tls: { cert, key }, token: TOKEN, sizeBytes: 16 * MIB });
    disk = await createDisk(temp('a.img'), 64 * MIB, [{ offsetBytes: 0, lengthBytes: 9 * MIB, content: 'random' }]);
    opened = await openImage(disk);
  });
  afterEach(async () => {
    await opened[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
  });

  /** @returns how it ended: the proof, or what it failed with */
  async function upload(
    options: Partial<HttpTargetOptions> = {},
    image: VirtualImage = opened.image,
    signal = new AbortController().signal,
  ) {
    const target = createHttpTarget({
      url: `${proxy.url}/v1beta1/upload`,
      method: 'POST',
      headers: { Authorization: `Bearer ${TOKEN}` },
      tls: { ca },
      access: createNetworkAccess(),
      clock: systemClock,
      ...options,
    });
    try {
      return (await target.send(image, transferContext({ signal }))).proof;
    } catch (error) {
      assert.ok(error instanceof DiskliftError && !error.message.includes(TOKEN), String(error));
      return [error.code, error.retryable, error.message.match(/answered (\d+)/)?.[1]];
    }
  }

  for (const path of ['/v1beta1/upload', '/v1beta1/upload-async'])
    it(`fills a volume by ${path}, and is refused for good when that is full`, async () => {
      assert.equal(await upload({ url: proxy.url + path }), 'status');
      writeFileSync(temp('volume.qcow2'), proxy.image ?? assert.fail());
      await assertImageOf(temp('volume.qcow2'), disk);
      assert.deepEqual(await upload({ url: proxy.url + path }), ['DestinationRejected', false, '409']);
    });

  it('may try again while another upload runs, and after one that was cut', async () => {
    const cancel = new AbortController();
    // Holds the first upload when some of it has arrived.
    const slow: VirtualImage = {
      ...opened.image,
      async *stream(range) {
        for await (const chunk of opened.image.stream(range)) {
          yield chunk;
          await new Promise((resolve) => cancel.signal.addEventListener('abort', resolve, { once: true }));
        }
      },
    };
    const first = upload({}, slow, cancel.signal);
    await proxy.busy;
    assert.deepEqual(await upload(), ['DestinationRejected', true, '503']);
    cancel.abort(new DiskliftError('Cancelled', 'cut'));
    assert.deepEqual(await first, ['Cancelled', false, undefined]);
    let last = await upload();
    // The server may not have noticed yet.
    while (Array.isArray(last) && last[2] === '503') last = await upload();
    assert.equal(last, 'status');
    assert.ok(proxy.image?.length === opened.image.sizeBytes);
  });

  it('is refused with a wrong token, without one, by PUT, at another path, and when the volume is too small', async () => {
    const rows: [Partial<HttpTargetOptions>, code: string, status: string][] = [
      [{ headers: { Authorization: 'Bearer wrong' } }, 'CredentialsInvalid', '401'],
      [{ headers: {} }, 'DestinationRejected', '400'],
      [{ headers: { Authorization: `Basic ${TOKEN}` } }, 'DestinationRejected', '400'],
      [{ method: 'PUT' }, 'DestinationRejected', '404'],
      [{ url: `${proxy.url}/v1beta1/uploads` }, 'DestinationRejected', '404'],
    ];
    for (const [options, code, status] of rows) assert.deepEqual(await upload(options), [code, false, status]);
    await using large = await openImage(
      await createDisk(temp('b.img'), 32 * MIB, [{ offsetBytes: 0, lengthBytes: 20 * MIB, content: 'random' }]),
    );
    assert.deepEqual(await upload({}, large.image), ['DestinationRejected', false, '400']);
    assert.equal(proxy.image, undefined);
    assert.deepEqual(proxy.statuses, [401, 400, 400, 404, 404, 400]);
  });
});
