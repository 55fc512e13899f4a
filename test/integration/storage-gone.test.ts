/** Storage that disappears during an export: the test kills a FUSE daemon. */

import assert from 'node:assert/strict';
import { copyFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { disklift } from '../helpers/disklift.ts';
import { useFileSystem } from '../helpers/file-system.ts';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { diskExport, type Manifest } from '../helpers/manifest.ts';
import { runShell } from '../helpers/run-command.ts';
import { apply, startSidecar, waitForStatus } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

/** A sink that kills the daemon of the mount when an image begins to arrive. */
function startKillingSink(volume: string): Promise<HttpSink> {
  return startHttpSink({
    async onRequest(request, response) {
      await runShell(`kill -9 $(pgrep -f 'sshfs .* ${volume}$')`);
      request.resume();
      request.once('error', () => {}).once('end', () => response.writeHead(201).end());
    },
  });
}

describe('storage that disappears during an export', function () {
  this.timeout(60_000);
  const temp = useTempDir();

  function requestOf(sink: HttpSink, backoffLimit: number, format: string): Manifest {
    const disks = [{ path: 'disk.img', format }];
    const source = { persistentVolumeClaim: { claimName: 'claim' }, inUse: 'Allow', verify: 'Never', disks };
    return diskExport('e', { http: { url: `${sink.url}/e` } }, { source, backoffLimit });
  }

  /**
   * Formats for each kind of source that keeps files open. Each test needs its own mount, because it kills the daemon.
   */
  for (const format of ['Raw', 'QCOW2'])
    describe(`with a disk of format ${format}`, () => {
      const { mounted, origin } = useFileSystem('sshfs');

      it('fails with the first error after the allowed attempts, and writes a status', async () => {
        await createDisk(temp('raw'), 48 * MIB, [{ offsetBytes: 0, lengthBytes: 48 * MIB, content: 'random' }]);
        if (format === 'Raw') await copyFile(temp('raw'), origin('disk.img'));
        else assert.equal((await runShell(`qemu-img convert -f raw -O qcow2 '${temp('raw')}' '${origin('disk.img')}'`)).code, 0);
        const volume = path.dirname(mounted('disk.img'));
        await using sink = await startKillingSink(volume);
        await writeFile(temp('request.yaml'), stringify(requestOf(sink, 1, format)));
        const { code, stdout, stderr } = await disklift(['export', '-f', temp('request.yaml'), '--volume', `claim=${volume}`]);
        assert.equal(code, 1, stderr);
        assert.doesNotMatch(stderr, /internal error|close/);
        const { status } = parse(stdout.toString()) as { status: DiskExportStatus };
        const reason = status.conditions?.find(({ type }) => type === 'Succeeded')?.reason;
        assert.deepEqual([status.phase, status.attempts, reason], ['Failed', 2, 'SourceReadError']);
        assert.match(status.message ?? '', /disk\.img: .*ENOTCONN/);
      });
    });

  describe('in a sidecar', () => {
    const { mounted, origin } = useFileSystem('sshfs');

    it('leaves no active export, and causes no more attempts than allowed', async () => {
      await createDisk(origin('disk.img'), 48 * MIB, [{ offsetBytes: 0, lengthBytes: 48 * MIB, content: 'random' }]);
      const volume = path.dirname(mounted('disk.img'));
      await using sink = await startKillingSink(volume);
      await using sidecar = await startSidecar({ requests: temp('requests'), volumes: [`claim=${volume}`], flags: [] });
      await apply(temp('requests'), requestOf(sink, 0, 'Raw'));
      const { phase, attempts } = await waitForStatus(temp('requests'), 'e');
      assert.deepEqual([phase, attempts], ['Failed', 1]);
      assert.equal((await sidecar.metrics()).get('disklift_exports_active'), 0);
      assert.deepEqual(
        sidecar.log().filter(({ msg }) => `${msg}`.includes('internal error')),
        [],
      );
    });
  });
});
