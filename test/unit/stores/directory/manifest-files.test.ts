import assert from 'node:assert/strict';
import { mkdirSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { stringify } from 'yaml';
import { systemClock } from '../../../../src/common/clock.ts';
import { ManifestFiles } from '../../../../src/stores/directory/manifest-files.ts';
import { changed } from '../../../fixtures/request-table.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const SETTLE_MS = 1000;
const KEY = 'vms/a';

const manifest = (name: string) => stringify(changed({ 'metadata.name': name, 'metadata.namespace': 'vms' }));

describe('manifest files', () => {
  const inTemp = useTempDir();
  let directory: string;
  let timeMs: number;
  /** A change that a user makes after the names are listed and before the files are read. */
  let meanwhile: () => void;
  let files: ManifestFiles;

  beforeEach(async () => {
    directory = inTemp('manifests');
    mkdirSync(directory);
    timeMs = 0;
    meanwhile = () => {};
    const monotonicMs = () => {
      meanwhile();
      meanwhile = () => {};
      return timeMs;
    };
    files = new ManifestFiles({ directory, clock: { ...systemClock, monotonicMs }, settleMs: SETTLE_MS, warn: assert.fail });
    write('a.yaml', manifest('a'));
    assert.deepEqual(await lookAfter(0), []);
    assert.deepEqual(await lookAfter(SETTLE_MS), [KEY]);
  });

  const inDirectory = (name: string) => path.join(directory, name);
  const write = (name: string, text: string) => writeFileSync(inDirectory(name), text);

  async function lookAfter(passedMs: number): Promise<string[] | undefined> {
    timeMs += passedMs;
    return files.look();
  }

  it('has a request no more once its file has been away for as long as it takes to be believed', async () => {
    unlinkSync(inDirectory('a.yaml'));
    assert.deepEqual(await lookAfter(100), []);
    assert.deepEqual(await lookAfter(SETTLE_MS - 1), []);
    assert.deepEqual(await lookAfter(1), [KEY]);
    assert.equal(files.get(KEY), undefined);
  });

  it('keeps the request of a file that is renamed while the directory is looked at', async () => {
    meanwhile = () => renameSync(inDirectory('a.yaml'), inDirectory('z.yaml'));
    for (let looks = 0; looks < 60; looks += 1) {
      assert.deepEqual(await lookAfter(40), []);
      assert.ok(files.get(KEY));
    }
    assert.equal(files.get(KEY)?.fileName, 'z.yaml');
  });

  it('keeps one that is put into a file of others soon after', async () => {
    write('0.yaml', manifest('b'));
    await lookAfter(0);
    assert.deepEqual(await lookAfter(SETTLE_MS), ['vms/b']);
    meanwhile = () => unlinkSync(inDirectory('a.yaml'));
    assert.deepEqual(await lookAfter(40), []);
    write('0.yaml', `${manifest('b')}---\n${manifest('a')}`);
    for (let looks = 0; looks < 60; looks += 1) {
      assert.deepEqual(await lookAfter(40), []);
      assert.ok(files.get(KEY));
    }
    assert.equal(files.get(KEY)?.fileName, '0.yaml');
  });

  it('never reports that a missing file has the request already', async () => {
    renameSync(inDirectory('a.yaml'), inDirectory('z.yaml'));
    await lookAfter(0);
    write('0.yaml', '# half');
    assert.deepEqual(await lookAfter(SETTLE_MS - 1), []);
    assert.deepEqual(await lookAfter(1), []);
    assert.equal(files.get(KEY)?.fileName, 'a.yaml', 'as long as it is not known what is in the new one');
    assert.deepEqual(await lookAfter(SETTLE_MS), []);
    assert.equal(files.get(KEY)?.fileName, 'z.yaml');
  });

  it('does not wait for ever for a file that is written and written', async () => {
    unlinkSync(inDirectory('a.yaml'));
    let looks = 0;
    do {
      write('log.yaml', `# ${'x'.repeat(looks)}`);
      looks += 1;
      await lookAfter(SETTLE_MS / 2);
    } while (files.get(KEY) !== undefined && looks < 100);
    assert.equal(looks, 21, 'ten times as long as it takes to be believed, and the look that has found it gone');
  });
});
