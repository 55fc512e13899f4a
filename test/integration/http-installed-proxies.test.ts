/** Proxies that companies use, between an export and its HTTP server. */

import assert from 'node:assert/strict';
import path from 'node:path';
import { MIB } from '../../src/common/bytes.ts';
import { systemClock } from '../../src/common/clock.ts';
import { DiskliftError } from '../../src/common/errors.ts';
import { createNetworkAccess } from '../../src/network/destination-policy.ts';
import { createHttpTarget } from '../../src/targets/http/http-target.ts';
import { type ImageInProcess, openImage } from '../helpers/image-in-process.ts';
import { INSTALLED_PROXIES, requireProxy } from '../helpers/installed-proxies.ts';
import type { ListeningProcess } from '../helpers/listening-process.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { transferContext } from '../helpers/transfer-context.ts';
import { LIMITED_SERVER as rclone, requireWebdavServer } from '../helpers/webdav-servers.ts';

for (const installed of INSTALLED_PROXIES)
  describe(`HTTP destination behind ${installed.name}`, () => {
    const temp = useTempDir();
    let disk: string;
    let opened: ImageInProcess;
    let proxy: ListeningProcess;
    before(function () {
      requireProxy(installed, this);
      requireWebdavServer(rclone, this);
    });
    beforeEach(async () => {
      disk = await createDisk(temp('a.img'), 16 * MIB, [{ offsetBytes: MIB, lengthBytes: 4 * MIB, content: 'random' }]);
      opened = await openImage(disk);
      proxy = await installed.start(temp('proxy'));
    });
    afterEach(async () => {
      await proxy[Symbol.asyncDispose]();
      await opened[Symbol.asyncDispose]();
    });

    const send = (url: string) => {
      const settings = { httpProxy: `http://127.0.0.1:${proxy.port}`, httpsProxy: `http://127.0.0.1:${proxy.port}` };
      const target = createHttpTarget({
        url,
        method: 'PUT',
        createCollections: true,
        access: createNetworkAccess(),
        clock: systemClock,
        proxy: settings,
      });
      return target.send(opened.image, transferContext());
    };

    it('makes folders and keeps the image, as qemu-img confirms', async () => {
      await using server = await rclone.start(temp('root'));
      const { proof } = await send(`http://127.0.0.1:${server.port}/vms/a.qcow2`);
      assert.equal(proof, 'status');
      await assertImageOf(path.join(temp('root'), 'vms/a.qcow2'), disk);
    });

    it('names the proxy that refuses a tunnel to a forbidden port', async () => {
      await assert.rejects(send('https://127.0.0.1:4443/a.qcow2'), (error) => {
        assert.ok(error instanceof DiskliftError);
        assert.match(error.message, /the proxy 127\.0\.0\.1:\d+: answered 403 when asked for 127\.0\.0\.1:4443/);
        return true;
      });
    });
  });
