import assert from 'node:assert/strict';
import { mkdir, rm } from 'node:fs/promises';
import { systemClock } from '../../../src/common/clock.ts';
import { createVolumeProbe } from '../../../src/sources/probe-volumes.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

describe('a probe of volumes', () => {
  const temp = useTempDir();

  it('names the volume that cannot be opened, as long as it cannot', async () => {
    await mkdir(temp('a'));
    const volumes = new Map([
      ['first', temp('a')],
      ['second', temp('b')],
    ]);
    const probe = createVolumeProbe(volumes, { clock: systemClock, signal: NEVER });
    assert.equal(await probe(), 'the volume of claim second cannot be opened: ENOENT');
    await mkdir(temp('b'));
    assert.equal(await probe(), undefined);
    await rm(temp('a'), { recursive: true });
    assert.equal(await probe(), 'the volume of claim first cannot be opened: ENOENT');
  });

  it('does not wait for a volume that hangs, and starts no second attempt meanwhile', async () => {
    let looks = 0;
    const hanging = () => {
      looks += 1;
      return new Promise<void>(() => {});
    };
    const clock = { ...systemClock, delay: async () => {} };
    const probe = createVolumeProbe(new Map([['far', '/far']]), { clock, signal: NEVER, open: hanging });
    for (let round = 0; round < 3; round += 1) assert.equal(await probe(), 'the volume of claim far does not answer');
    assert.equal(looks, 1);
  });
});
