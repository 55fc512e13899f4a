import assert from 'node:assert/strict';
import { lstatSync, readdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { syncDirectoryOf, writeDurably } from '../../../src/common/durable-file.ts';
import { pathOfDescriptor } from '../../../src/common/path-of-descriptor.ts';
import { createFileOutput } from '../../../src/targets/tcp/file-output.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

describe('durable file', () => {
  const temp = useTempDir();
  let undo = () => {};
  afterEach(() => undo());

  /** Calls `onSync` before each sync of a file or directory of this process, with its path. */
  async function observeSyncs(onSync: (synced: string) => void): Promise<void> {
    const probe = await open(temp(''), 'r');
    const prototype = Object.getPrototypeOf(probe) as FileHandle;
    await probe.close();
    const { sync } = prototype;
    undo = () => {
      prototype.sync = sync;
    };
    prototype.sync = function observed(this: FileHandle) {
      // The link in /proc has the path under which the file lies now.
      onSync(path.relative(temp(''), readlinkSync(pathOfDescriptor(this))));
      return sync.call(this);
    };
  }

  const failure = (code: string) => Object.assign(new Error('injected'), { code });
  const text = (name: string) => readFileSync(temp(name), 'utf8');

  it('has the whole draft on the disk before it replaces the file, and the new name before it ends', async () => {
    writeFileSync(temp('a.json'), 'old');
    const steps: object[] = [];
    await observeSyncs((synced) => {
      steps.push({ synced, file: text('a.json'), draft: readdirSync(temp('')).includes('.a.json.tmp') ? text('.a.json.tmp') : undefined });
    });
    await writeDurably(temp('a.json'), { text: 'new', mode: 0o600 });
    assert.deepEqual(steps, [
      { synced: '.a.json.tmp', file: 'old', draft: 'new' },
      { synced: '', file: 'new', draft: undefined },
    ]);
  });

  it('keeps the old text when the disk refuses the draft', async () => {
    writeFileSync(temp('a.json'), 'old');
    await observeSyncs(() => {
      throw failure('EIO');
    });
    await assert.rejects(writeDurably(temp('a.json'), { text: 'new', mode: 0o600 }), { code: 'EIO' });
    assert.equal(text('a.json'), 'old');
  });

  it('replaces the draft of a killed process, and a link in its place, without writing through it', async () => {
    writeFileSync(temp('victim'), 'precious');
    symlinkSync(temp('victim'), temp('.a.json.tmp'));
    await writeDurably(temp('a.json'), { text: 'new', mode: 0o600 });
    writeFileSync(temp('.a.json.tmp'), 'a much longer rest of a killed process');
    await writeDurably(temp('a.json'), { text: 'newer', mode: 0o600 });
    assert.deepEqual([text('victim'), text('a.json'), lstatSync(temp('a.json')).isFile()], ['precious', 'newer', true]);
  });

  it('gives the file its mode whatever the umask is', async () => {
    const umask = process.umask(0o077);
    try {
      await writeDurably(temp('a.yaml'), { text: 'new', mode: 0o644 });
    } finally {
      process.umask(umask);
    }
    assert.equal(statSync(temp('a.yaml')).mode & 0o777, 0o644);
  });

  it('accepts a file system that cannot sync directories, but no failed sync', async () => {
    let code = 'EINVAL';
    await observeSyncs(() => {
      throw failure(code);
    });
    await syncDirectoryOf(temp('a.json'));
    code = 'EIO';
    await assert.rejects(syncDirectoryOf(temp('a.json')), { code: 'EIO' });
  });

  it('holds the state of a partial image: the offset is on the disk before an answer names it', async () => {
    const hello = { exportUid: 'u', disk: 'd', sizeBytes: 4, fingerprint: 'f' };
    const output = await createFileOutput({ path: temp('a.qcow2'), force: false });
    await output.begin(hello);
    await output.write(Buffer.from('ab'));
    const synced: string[] = [];
    await observeSyncs((name) => void synced.push(name));
    await output.suspend();
    assert.deepEqual(synced, ['.a.qcow2.partial.json.tmp', '']);
    assert.equal(JSON.parse(text('a.qcow2.partial.json')).durableBytes, 2);
  });
});
