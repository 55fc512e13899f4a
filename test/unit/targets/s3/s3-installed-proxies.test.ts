import assert from 'node:assert/strict';
import { openImage } from '../../../helpers/image-in-process.ts';
import { INSTALLED_PROXIES, requireProxy } from '../../../helpers/installed-proxies.ts';
import type { ListeningProcess } from '../../../helpers/listening-process.ts';
import { KEY } from '../../../helpers/s3-export.ts';
import { useS3Rig } from '../../../helpers/s3-rig.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';

const MIB = 1024 * 1024;

for (const proxy of INSTALLED_PROXIES)
  describe(`s3 target at an http endpoint behind ${proxy.name}, which makes tunnels to port 443 only`, () => {
    const rig = useS3Rig();
    let running: ListeningProcess;
    before(function () {
      requireProxy(proxy, this);
    });
    beforeEach(async () => {
      running = await proxy.start(rig.temp('proxy'));
    });
    afterEach(() => running[Symbol.asyncDispose]());
    const options = () => ({ proxy: { httpProxy: `http://127.0.0.1:${running.port}` } });

    it('sends an image of many parts, and one of large parts', async () => {
      rig.assertArrived(await rig.send({ options: options() }));
      for (const { headers } of rig.fake.requests) assert.match(`${headers.via}`, new RegExp(proxy.name), 'the request came by the proxy');
      const parts = [{ offsetBytes: 0, lengthBytes: 24 * MIB, content: 'random' }] as const;
      await using large = await openImage(await createDisk(rig.temp('large.img'), 24 * MIB, parts));
      const sent = await rig.send({ image: large.image, options: { ...options(), partSizeBytes: 8 * MIB } });
      assert.equal(sent.failure, undefined);
      assert.equal(rig.fake.store.objects.get(KEY)?.body.length, large.image.sizeBytes);
    });

    it('sends an image by one request, with a key that has to be encoded', async () => {
      const key = "a b+c/ü%20'(1)*!&=;,@.qcow2";
      const sent = await rig.send({ options: { ...options(), key, partSizeBytes: 8 * MIB } });
      assert.equal(sent.failure, undefined);
      assert.ok(rig.fake.store.objects.get(key)?.body.equals(rig.expected));
    });

    it('fails with a retryable error when the server is unreachable', async () => {
      const { url } = rig.fake;
      await rig.fake[Symbol.asyncDispose]();
      const { failure } = await rig.send({ options: options(), limits: { tries: 1 } });
      assert.deepEqual([failure?.code, failure?.retryable], ['DestinationRejected', true], failure?.message);
      assert.match(failure?.message ?? '', new RegExp(`at ${new URL(url).host}: answered 50[0-4]`));
    });
  });
