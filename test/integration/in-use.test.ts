/** Exports and streams of disks that a QEMU has open or tries to open. */

import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse, stringify } from 'yaml';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { disklift, diskliftLine } from '../helpers/disklift.ts';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { attachLoopDevice, requireLoopDevices } from '../helpers/loop-device.ts';
import { diskExport, type Manifest } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { openForWriting, tryToWrite } from '../helpers/qemu-io.ts';
import { runCommand, runShell } from '../helpers/run-command.ts';
import { apply, startSidecar, statusOf, waitForStatus } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { startStallingSink } from '../helpers/stalling-sink.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

describe('a disk in use', function () {
  this.timeout(60_000);
  const temp = useTempDir();
  let disk: string;
  beforeEach(async () => {
    await mkdir(temp('volume'));
    disk = await createDisk(temp('volume/disk.img'), 16 * MIB, [{ offsetBytes: MIB, lengthBytes: 5 * MIB, content: 'random' }]);
  });

  function requestOf(sink: HttpSink, inUse: string, spec: Record<string, unknown> = {}): Manifest {
    const source = { persistentVolumeClaim: { claimName: 'claim' }, inUse };
    return diskExport('e', { http: { url: `${sink.url}/e` } }, { source, backoffLimit: 0, ...spec });
  }

  const conditionOf = (status: DiskExportStatus, type: string) => status.conditions?.find((condition) => condition.type === type);

  async function assertArrived(sink: HttpSink): Promise<void> {
    await writeFile(temp('arrived.qcow2'), sink.complete.get('/e') ?? assert.fail('nothing arrived'));
    await assertImageOf(temp('arrived.qcow2'), disk);
  }

  describe('in a sidecar', () => {
    const start = (...flags: string[]) => startSidecar({ requests: temp('requests'), volumes: [`claim=${temp('volume')}`], flags });

    it('delays its export without using up an attempt, and the status names the writer', async () => {
      await using sink = await startHttpSink();
      await using writer = await openForWriting(disk);
      await using sidecar = await start();
      await apply(temp('requests'), requestOf(sink, 'Wait'));
      const waiting = await waitForStatus(temp('requests'), 'e', ({ message }) => message?.includes('qemu-io') ?? false);
      assert.deepEqual([waiting.phase, waiting.attempts, waiting.completionTime], ['Pending', 0, undefined]);
      const { status, reason, message } = conditionOf(waiting, 'SourceReady') ?? assert.fail();
      assert.deepEqual([status, reason], ['False', 'SourceInUse']);
      assert.ok(message?.includes(`disk.img: is in use by qemu-io (pid ${writer.process.pid});`), message);
      assert.equal(conditionOf(waiting, 'Progressing')?.reason, 'SourceInUse');
      // Longer than the interval between two checks.
      await sleep(2500);
      assert.equal(sink.requests.length, 0);
      await writer.quit();
      const done = await waitForStatus(temp('requests'), 'e');
      assert.deepEqual([done.phase, done.attempts, conditionOf(done, 'SourceReady')?.status], ['Succeeded', 1, 'True']);
      await assertArrived(sink);
      assert.equal(sidecar.log().filter(({ msg }) => msg === 'waits until the disk is free').length, 1);
    });

    it('lets other exports run first, and is queued before later exports when it is free', async () => {
      await createDisk(temp('volume/quiet.raw'), MIB, [{ offsetBytes: 0, lengthBytes: MIB / 2, content: 'random' }]);
      const quiet = (sink: HttpSink, name: string): Manifest => {
        const source = { persistentVolumeClaim: { claimName: 'claim' }, disks: [{ path: 'quiet.raw' }] };
        return diskExport(name, { http: { url: `${sink.url}/${name}` } }, { source });
      };
      await using sink = await startHttpSink();
      await using stalling = await startStallingSink();
      await using writer = await openForWriting(disk);
      await using sidecar = await start('--max-concurrent-exports', '1');
      await apply(temp('requests'), requestOf(sink, 'Wait'));
      await waitForStatus(temp('requests'), 'e', ({ message }) => message?.includes('qemu-io') ?? false);
      await apply(temp('requests'), quiet(sink, 'passes'));
      assert.equal((await waitForStatus(temp('requests'), 'passes')).phase, 'Succeeded');
      assert.equal(statusOf(temp('requests'), 'e')?.phase, 'Pending');

      await apply(temp('requests'), quiet(stalling, 'runs'));
      await stalling.begun(1);
      await apply(temp('requests'), quiet(sink, 'later'));
      const unclaimed = await waitForStatus(temp('requests'), 'later', ({ message }) => message !== undefined);
      assert.deepEqual([unclaimed.message, unclaimed.startTime], ['waits for a slot: 1 exports run at a time', undefined]);
      await writer.quit();
      const queued = await waitForStatus(temp('requests'), 'e', ({ message }) => message?.includes('waits for a slot') ?? false);
      assert.deepEqual([queued.phase, queued.attempts, conditionOf(queued, 'Progressing')?.reason], ['Pending', 0, 'Queued']);
      assert.notEqual(conditionOf(queued, 'SourceReady')?.status, 'False');
      assert.ok((await tryToWrite(disk)).isWritten, 'a VM is not kept from its disk meanwhile');
      stalling.goOn();
      for (const name of ['runs', 'e', 'later']) {
        const { phase, attempts } = await waitForStatus(temp('requests'), name);
        assert.deepEqual([phase, attempts], ['Succeeded', 1]);
      }
      assert.deepEqual(
        sink.requests.map(({ url }) => url),
        ['/passes', '/e', '/later'],
      );
      await assertArrived(sink);
      assert.equal((await sidecar.metrics()).get('disklift_exports_active'), 0);
    });

    it('does not delay the cancellation of its export', async () => {
      await using sink = await startHttpSink();
      await using _writer = await openForWriting(disk);
      await using _sidecar = await start();
      const request = requestOf(sink, 'Wait');
      await apply(temp('requests'), request);
      await waitForStatus(temp('requests'), 'e', ({ message }) => message?.includes('qemu-io') ?? false);
      await apply(temp('requests'), { ...request, spec: { ...request.spec, cancel: true } });
      const status = await waitForStatus(temp('requests'), 'e');
      assert.deepEqual([status.phase, status.attempts], ['Cancelled', 0]);
    });
  });

  async function exportDisk(request: Manifest, volume = temp('volume')): Promise<DiskExportStatus> {
    await writeFile(temp('request.yaml'), stringify(request));
    const { stdout } = await disklift(['export', '-f', temp('request.yaml'), '--volume', `claim=${volume}`]);
    return (parse(stdout.toString()) as { status: DiskExportStatus }).status;
  }

  it('fails an export with inUse Fail at once', async () => {
    await using sink = await startHttpSink();
    await using _writer = await openForWriting(disk);
    const status = await exportDisk(requestOf(sink, 'Fail', { backoffLimit: 6 }));
    assert.deepEqual([status.phase, conditionOf(status, 'Succeeded')?.reason, status.attempts], ['Failed', 'SourceInUse', 1]);
    assert.equal(sink.requests.length, 0);
  });

  it('is exported with inUse Allow', async () => {
    await using sink = await startHttpSink();
    await using _writer = await openForWriting(disk);
    assert.equal((await exportDisk(requestOf(sink, 'Allow'))).phase, 'Succeeded');
    await _writer.quit();
    await assertArrived(sink);
  });

  it('cannot be opened for writing by QEMU while it is exported, but can still be read', async () => {
    const before = await readFile(disk);
    const tries: Promise<{ isWritten: boolean; words: string }>[] = [];
    const reads: Promise<{ code: number | null }>[] = [];
    await using sink = await startHttpSink({
      async onRequest(request, response) {
        tries.push(tryToWrite(disk));
        reads.push(runCommand('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', disk, disk]));
        await Promise.all([...tries, ...reads]);
        await sink.take(request);
        response.writeHead(201).end();
      },
    });
    assert.equal((await exportDisk(requestOf(sink, 'Wait'))).phase, 'Succeeded');
    assert.equal(tries.length, 1);
    const { isWritten, words } = (await tries[0]) ?? assert.fail();
    assert.ok(!isWritten);
    assert.match(words, /Failed to get "write" lock/);
    assert.equal((await reads[0])?.code, 0);
    assert.ok((await readFile(disk)).equals(before));
    await assertArrived(sink);
    assert.ok((await tryToWrite(disk)).isWritten, 'and free again behind it');
  });

  it('is refused by disklift stream in one line without --in-use allow', async () => {
    await using _writer = await openForWriting(disk);
    for (const flags of [[], ['--in-use', 'fail']]) {
      const { code, stdout, stderr } = await disklift(['stream', ...flags, disk]);
      assert.deepEqual([code, stdout.length], [1, 0]);
      assert.match(stderr, /^disklift: .*disk\.img: is in use by qemu-io \(pid \d+\);[^\n]+--in-use allow\)\n$/);
    }
    const { code } = await runShell(`${diskliftLine(['stream', '--in-use', 'allow', disk])} > '${temp('out.qcow2')}'`);
    assert.equal(code, 0);
    await _writer.quit();
    await assertImageOf(temp('out.qcow2'), disk);
  });

  describe('that is a block device', () => {
    before(function () {
      return requireLoopDevices(this);
    });

    it('is exported only with inUse Allow, because its use cannot be detected', async () => {
      await using sink = await startHttpSink();
      await using loop = await attachLoopDevice(disk);
      for (const inUse of ['Wait', 'Fail']) {
        const status = await exportDisk(requestOf(sink, inUse, { backoffLimit: 6 }), loop.path);
        assert.deepEqual([status.phase, conditionOf(status, 'Succeeded')?.reason, status.attempts], ['Failed', 'InUseUnknown', 1]);
        assert.match(status.message ?? '', /inUse Allow/);
      }
      assert.equal(sink.requests.length, 0);
      assert.equal((await exportDisk(requestOf(sink, 'Allow'), loop.path)).phase, 'Succeeded');
      await assertArrived(sink);
    });
  });
});
