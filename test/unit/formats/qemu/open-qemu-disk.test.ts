import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { DiskliftError } from '../../../../src/common/errors.ts';
import type { DiskSource, SourceExtent } from '../../../../src/sources/contract.ts';
import { createImage } from '../../../helpers/create-image.ts';
import { failsWith } from '../../../helpers/failure.ts';
import { NEVER } from '../../../helpers/image-in-process.ts';
import { type ByQemuOptions, openByQemu } from '../../../helpers/open-image.ts';
import { openNames } from '../../../helpers/opened-paths.ts';
import { descendantsNamed, waitForNone } from '../../../helpers/processes.ts';
import { openForWriting } from '../../../helpers/qemu-io.ts';
import { linkPrograms, QEMU_PROGRAMS, withPath, writeProgram } from '../../../helpers/qemu-programs.ts';
import { runCommand } from '../../../helpers/run-command.ts';
import { stopProcess } from '../../../helpers/stop-process.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

describe('a disk that QEMU reads', () => {
  const temp = useTempDir();
  beforeEach(async () => {
    await mkdir(temp('volume'));
    await createImage(temp('volume/base.qcow2'), { format: 'qcow2', size: '8M' });
    await runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0x41 1M 1M', temp('volume/base.qcow2')]);
    await createImage(temp('volume/a.qcow2'), { format: 'qcow2', backing: { name: 'base.qcow2', format: 'qcow2' } });
    await runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0x42 4M 1M', temp('volume/a.qcow2')]);
  });
  /** Nothing outlives a disk: no descriptor, no process. */
  afterEach(async () => {
    assert.deepEqual(await openNames(temp('volume')), []);
    assert.deepEqual(await waitForNone(() => [...QEMU_PROGRAMS, 'sh'].flatMap((name) => descendantsNamed(name))), []);
  });

  function openDisk(options: ByQemuOptions = {}, name = 'a.qcow2'): Promise<DiskSource> {
    return openByQemu(temp(`volume/${name}`), { inUse: 'fail', ...options });
  }

  async function withDisk(run: (disk: DiskSource) => Promise<void>, options: ByQemuOptions = {}): Promise<void> {
    const disk = await openDisk(options);
    try {
      await run(disk);
    } finally {
      await disk.dispose();
    }
  }

  async function assertContent(disk: DiskSource): Promise<void> {
    const bytes = Buffer.alloc(8 * MIB);
    await disk.read(bytes, 0, NEVER);
    const expected = Buffer.alloc(8 * MIB);
    expected.fill(0x41, MIB, 2 * MIB).fill(0x42, 4 * MIB, 5 * MIB);
    assert.ok(bytes.equals(expected));
  }

  for (const program of QEMU_PROGRAMS)
    it(`has the content of the whole chain, by ${program}`, async () => {
      await withPath(await linkPrograms(temp('bin'), [program]), () =>
        withDisk(async (disk) => {
          const { name, sizeBytes, format, identityMissesWrites, fileExtents } = disk;
          assert.deepEqual(
            { name, sizeBytes, format, identityMissesWrites, fileExtents },
            { name: temp('volume/a.qcow2'), sizeBytes: 8 * MIB, format: 'qcow2', identityMissesWrites: false, fileExtents: undefined },
          );
          await assertContent(disk);
          const extents: SourceExtent[] = [];
          for await (const extent of disk.extents(NEVER)) extents.push(extent);
          assert.deepEqual(
            extents.filter(({ kind }) => kind === 'data').map(({ offset, length }) => [offset, length]),
            [
              [MIB, MIB],
              [4 * MIB, MIB],
            ],
          );
        }),
      );
    });

  it('leaves nothing in the directory for temporary files', async () => {
    await mkdir(temp('tmp'));
    const { TMPDIR } = process.env;
    process.env.TMPDIR = temp('tmp');
    try {
      await withDisk(async () => assert.deepEqual(readdirSync(temp('tmp')), []));
    } finally {
      if (TMPDIR === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = TMPDIR;
    }
  });

  it('does without a directory for temporary files', async () => {
    const { TMPDIR } = process.env;
    process.env.TMPDIR = temp('missing');
    try {
      await withDisk(assertContent);
    } finally {
      if (TMPDIR === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = TMPDIR;
    }
  });

  it('is another one when a backing file has been written to', async () => {
    await withDisk(async (disk) => {
      const before = await disk.identity();
      assert.deepEqual(await disk.identity(), before);
      await utimes(temp('volume/base.qcow2'), 1, 1);
      await assert.rejects(disk.identity(), failsWith('SourceChanged', /base\.qcow2: mtime has changed/));
    });
  });

  it('is refused while QEMU writes to it, and its backing file too', async () => {
    for (const name of ['a.qcow2', 'base.qcow2']) {
      await using _writer = await openForWriting(temp(`volume/${name}`), 'qcow2');
      await assert.rejects(openDisk(), failsWith('SourceInUse', new RegExp(`${name}: is in use by qemu-io`)));
    }
  });

  it('is read while QEMU has it open where that is allowed', async () => {
    await using _writer = await openForWriting(temp('volume/a.qcow2'), 'qcow2');
    await withDisk(assertContent, { inUse: 'allow' });
  });

  it('keeps QEMU from writing, and lets it read', async () => {
    await withDisk(async () => {
      for (const name of ['a.qcow2', 'base.qcow2']) {
        const write = await runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write 0 512', temp(`volume/${name}`)]);
        assert.match(`${write.stdout}${write.stderr}`, /Failed to get "write" lock/);
      }
      assert.equal((await runCommand('qemu-img', ['info', temp('volume/a.qcow2')])).code, 0);
    });
  });

  it('ends with the place when QEMU is killed', async () => {
    await withDisk(async (disk) => {
      for (const processId of QEMU_PROGRAMS.flatMap((name) => descendantsNamed(name))) process.kill(processId, 'SIGKILL');
      await assert.rejects(
        disk.read(Buffer.alloc(512), MIB, NEVER),
        failsWith(
          'SourceReadError',
          /a\.qcow2: cannot read at offset 1048576: the (server has closed the connection|connection was reset)$/,
        ),
      );
    });
  });

  it('ends with the place when QEMU is stopped, and a cancelled read at once', async () => {
    await withDisk(
      async (disk) => {
        for (const processId of QEMU_PROGRAMS.flatMap((name) => descendantsNamed(name))) await stopProcess(processId);
        const cancel = new AbortController();
        const read = disk.read(Buffer.alloc(512), 0, cancel.signal);
        cancel.abort(new DiskliftError('Cancelled', 'enough'));
        await assert.rejects(read, failsWith('Cancelled', /enough/));
        await assert.rejects(
          disk.read(Buffer.alloc(512), MIB, NEVER),
          failsWith('SourceReadError', /cannot read at offset 1048576: no answer within 0\.3 s/),
        );
      },
      { limits: { silenceMs: 300 } },
    );
  });

  describe('in place of which there is', () => {
    const withProgram = (text: string, run: () => Promise<void>) => withPath(writeProgram(temp('bin'), 'qemu-storage-daemon', text), run);

    it('no program: tells which image has one', async () => {
      await withPath(temp('nothing'), () =>
        assert.rejects(
          openDisk(),
          failsWith('FormatUnsupported', /a\.qcow2: disks of format qcow2 .* neither is installed; .*disklift-formats/),
        ),
      );
    });

    it('one that never answers: cancelled at once, and killed', async () => {
      await withProgram('#!/bin/sh\nexec /bin/sleep 60\n', async () => {
        const cancel = new AbortController();
        const opening = openDisk({ signal: cancel.signal });
        opening.catch(() => {});
        await sleep(100);
        const startMs = performance.now();
        cancel.abort(new DiskliftError('Cancelled', 'enough'));
        await assert.rejects(opening, failsWith('Cancelled', /enough/));
        assert.ok(performance.now() - startMs < 1000);
        assert.deepEqual(await waitForNone(() => descendantsNamed('sleep')), []);
      });
    });

    it('one that ends at once', async () => {
      await withProgram('#!/bin/sh\nexit 3\n', () =>
        assert.rejects(openDisk(), failsWith('SourceReadError', /a\.qcow2: QEMU ended when it opened it \(exit code 3\)/)),
      );
    });

    it('one that lies', async () => {
      const { stdout } = await runCommand('python3', ['-c', 'import sys; print(sys.executable)']);
      const lie = "import socket\nserver = socket.socket(fileno=3)\nserver.setblocking(True)\nserver.accept()[0].sendall(b'x' * 64)";
      const text = `#!${stdout.toString().trim()}\n${lie}\nimport time\ntime.sleep(60)\n`;
      await withProgram(text, () => assert.rejects(openDisk(), failsWith('SourceReadError', /a\.qcow2: it is not an NBD server/)));
    });

    it('one that has opened what it was not given', async () => {
      const { stdout } = await runCommand('which', ['qemu-storage-daemon']);
      await writeFile(temp('secret'), 'secret');
      await withProgram(`#!/bin/sh\nexec ${stdout.toString().trim()} "$@" 9<'${temp('secret')}'\n`, () =>
        assert.rejects(openDisk(), failsWith('SourceChanged', /names another file or server/)),
      );
    });
  });

  it('is no image of the format', async () => {
    await writeFile(temp('volume/b.vdi'), Buffer.alloc(MIB, 1));
    await assert.rejects(openDisk({ format: 'vdi' }, 'b.vdi'), failsWith('FormatUnsupported', /b\.vdi/));
  });
});
