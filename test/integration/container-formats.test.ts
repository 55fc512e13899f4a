/** The container image with QEMU's programs: the other stage of the Dockerfile, on a stand-in for its base, and run. */

import assert from 'node:assert/strict';
import { chmodSync, chownSync, closeSync, openSync } from 'node:fs';
import { type BuiltImage, openImage } from '../helpers/container-image.ts';
import { execIn, killContainer, startContainer } from '../helpers/container-process.ts';
import { QEMU_USER } from '../helpers/kubevirt-disk.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { runCommand } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;
const IDLE = ['/nodejs/bin/node', '-e', "process.once('SIGTERM', () => process.exit()); setInterval(() => {}, 1 << 30);"];

describe('the container image disklift-formats', function () {
  this.timeout(120_000);
  const temp = useTempDir();
  let image: BuiltImage;
  before(async () => {
    image = await openImage('disklift-formats');
  });
  after(() => image?.[Symbol.asyncDispose]());

  it('has the same command and user as the other image', () => {
    const { Entrypoint, Cmd, User, WorkingDir } = image.config;
    assert.deepEqual(
      { Entrypoint, Cmd, User, WorkingDir },
      { Entrypoint: ['disklift'], Cmd: undefined, User: '107:107', WorkingDir: '/app' },
    );
  });

  it('streams a qcow2 disk in a pod under Pod Security restricted, where only shared memory is writable', async () => {
    const disk = await createDisk(temp('disk.raw'), 8 * MIB, [{ offsetBytes: MIB, lengthBytes: 3 * MIB, content: 'random' }]);
    const convert = await runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', disk, temp('disk.qcow2')]);
    assert.equal(convert.code, 0, convert.stderr);
    chmodSync(temp(''), 0o755);
    chmodSync(temp('disk.qcow2'), 0o660);
    chownSync(temp('disk.qcow2'), QEMU_USER, QEMU_USER);
    const { root, config } = image;
    const container = await startContainer({ root, uid: QEMU_USER, workingDirectory: config.WorkingDir, disks: temp('') }, IDLE);
    try {
      const stdout = openSync(temp('out.qcow2'), 'w');
      const command = ['disklift', 'stream', '-f', 'qcow2', '/disks/disk.qcow2'];
      const { code, stderr } = await execIn(container, QEMU_USER, command, { stdout }).finally(() => closeSync(stdout));
      assert.deepEqual([code, stderr], [0, '']);
    } finally {
      await killContainer(container);
    }
    await assertImageOf(temp('out.qcow2'), disk);
  });
});
