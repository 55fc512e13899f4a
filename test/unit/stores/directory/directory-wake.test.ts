import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { createDirectoryWake } from '../../../../src/stores/directory/directory-wake.ts';
import { startStorageOutage } from '../../../helpers/storage-outage.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const LONG_MS = 20_000;
const AT_ONCE_MS = 2000;

describe('directory wake', () => {
  const temp = useTempDir();
  let directory: string;
  let end: AbortController;
  let wake: ReturnType<typeof createDirectoryWake>;

  beforeEach(() => {
    directory = temp('requests');
    mkdirSync(directory);
    end = new AbortController();
    wake = createDirectoryWake(directory, systemClock);
  });
  afterEach(() => wake.close());

  async function waitedMs(limitMs: number): Promise<number> {
    const startMs = performance.now();
    await wake.wait(limitMs, end.signal);
    return performance.now() - startMs;
  }

  it('waits until a file changes', async () => {
    const waited = waitedMs(LONG_MS);
    await sleep(300);
    writeFileSync(path.join(directory, 'a.yaml'), 'a');
    assert.ok((await waited) < AT_ONCE_MS);
  });

  it('waits as long as the limit where the directory is missing', async () => {
    wake = createDirectoryWake(temp('nowhere'), systemClock);
    const ms = await waitedMs(200);
    assert.ok(ms > 190 && ms < AT_ONCE_MS, `${ms} ms`);
  });

  it('ends at an abort although the storage does not answer', async function () {
    await using _outage = await startStorageOutage({ directory, source: temp('other'), kind: 'hangs' }, this);
    const waited = waitedMs(LONG_MS);
    await sleep(100);
    end.abort(new DiskliftError('Cancelled', 'the test ends it'));
    assert.ok((await waited) < AT_ONCE_MS);
  });
});
