/** Incremental exports of a block device by block hashes: it does not show writes, so it is read twice. */

import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync } from 'node:fs';
import { attachLoopDevice, requireLoopDevices } from '../helpers/loop-device.ts';
import { startNginx } from '../helpers/nginx.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { runCommand } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { runTracked } from '../helpers/tracked-exports.ts';

const MIB = 1024 * 1024;

describe('incremental exports of a block device', () => {
  const temp = useTempDir();
  before(async function () {
    await requireLoopDevices(this);
  });

  it('make a chain that shows the device at each point in time, and count what was read', async () => {
    mkdirSync(temp('server'));
    await using server = await startNginx(temp('server'), 'dav_methods PUT; create_full_put_path on; client_max_body_size 0;');
    const backing = await createDisk(temp('backing.img'), 16 * MIB, [{ offsetBytes: 0, lengthBytes: 8 * MIB, content: 'random' }]);
    await using loop = await attachLoopDevice(backing);

    async function run(name: string) {
      const { phase, failure, status } = await runTracked({
        name,
        volume: loop.path,
        uid: `uid-${name}`,
        spec: {
          source: { persistentVolumeClaim: { claimName: 'root' }, inUse: 'Allow' },
          destination: { http: { url: `${server.url}/vms/${name}.qcow2` } },
          incremental: { tracker: '/vms/latest.json' },
        },
      });
      assert.equal(phase, 'Succeeded', failure?.message);
      copyFileSync(backing, temp(`${name}.truth`));
      return status.disks?.[0];
    }

    async function write(commands: readonly string[]): Promise<void> {
      const args = ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), loop.path];
      const { code, stderr } = await runCommand('qemu-io', args);
      assert.equal(code, 0, `${stderr}`);
    }

    assert.equal((await run('one'))?.type, 'Full');
    await write(['write -q -P 7 3M 512', 'write -q -P 0 5M 1M']);
    const second = await run('two');
    await write(['write -q -P 8 15M 4k']);
    const third = await run('three');
    assert.deepEqual([second?.type, second?.typeReason, third?.type], ['Incremental', 'BlockHashes', 'Incremental']);
    // All is hashed and hashed again. The two changed blocks are scanned; the one with data is sent.
    const readBytes = second?.readBytes ?? 0;
    assert.ok(readBytes >= 2 * 8 * MIB && readBytes <= 2 * 16 * MIB + 4 * MIB, `${readBytes} bytes were read`);
    for (const name of ['one', 'two', 'three']) await assertImageOf(server.file(`vms/${name}.qcow2`), temp(`${name}.truth`));
  });
});
