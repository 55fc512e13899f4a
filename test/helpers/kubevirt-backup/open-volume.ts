/** Opens a volume of an export server as the worker does. */

import { systemClock } from '../../../src/common/clock.ts';
import { createNetworkAccess } from '../../../src/network/destination-policy.ts';
import { createGuardedGet } from '../../../src/network/guarded-get.ts';
import type { TrackedSource } from '../../../src/sources/changed/contract.ts';
import type { SourceIdentity } from '../../../src/sources/contract.ts';
import { openBackupVolume } from '../../../src/sources/virtual-machine-backup/open-backup-volume.ts';
import { NEVER } from '../image-in-process.ts';

export interface VolumeToOpen {
  server: { ca: string; token: string; url(volume: string, endpoint: 'data' | 'map'): URL };
  volume: string;
  isIncremental: boolean;
  silenceMs?: number;
  signal?: AbortSignal;
  identify?: () => Promise<SourceIdentity>;
}

/** Without waits between the tries of a request. */
const CLOCK = { ...systemClock, delay: (ms: number, signal: AbortSignal) => systemClock.delay(Math.min(ms, 100), signal) };

export function openVolume({ server, volume, isIncremental, silenceMs = 5000, ...options }: VolumeToOpen): Promise<TrackedSource> {
  const { signal = NEVER, identify = async () => ({ backup: 'uid' }) } = options;
  return openBackupVolume({
    name: volume,
    dataUrl: server.url(volume, 'data'),
    mapUrl: server.url(volume, 'map'),
    isIncremental,
    server: createGuardedGet({
      access: createNetworkAccess(),
      tls: { ca: server.ca },
      proxy: {},
      headers: { 'x-kubevirt-export-token': server.token },
      clock: systemClock,
      silenceMs,
    }),
    clock: CLOCK,
    random: () => 0,
    signal,
    identify,
  });
}
