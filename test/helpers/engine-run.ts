/** One disk through the whole engine. */

import { systemClock } from '../../src/common/clock.ts';
import type { ExportClaim, ExportResult } from '../../src/engine/contract.ts';
import type { ExportObserver } from '../../src/engine/observer.ts';
import { runExport } from '../../src/engine/run-export.ts';
import type { ExportTarget } from '../../src/targets/contract.ts';
import { DEFAULT_OPTIONS, NEVER, openSource } from './image-in-process.ts';
import { UNCONTESTED_CLAIM } from './uncontested-claim.ts';

export interface EngineRun {
  diskPath: string;
  createTarget(): Promise<ExportTarget>;
  backoffLimit?: number;
  activeDeadlineSeconds?: number;
  signal?: AbortSignal;
  claim?: ExportClaim;
  observer?: ExportObserver;
  /** Receives warnings about leftovers at the destination. */
  warn?(message: string): void;
}

/** Outside the range of a real source of randomness: it reduces the waits between attempts to nothing. */
const withoutWaits = () => -0.5;

/** No wait between attempts, unless the peer requests one. */
export function runEngine({
  diskPath,
  createTarget,
  backoffLimit = 0,
  activeDeadlineSeconds,
  ...context
}: EngineRun): Promise<ExportResult> {
  const disk = {
    path: 'a.img',
    qcow2: DEFAULT_OPTIONS,
    zeroDetection: 'content' as const,
    openSource: () => openSource(diskPath),
    createTarget,
  };
  return runExport(
    { checksum: 'SHA256', backoffLimit, activeDeadlineSeconds, disks: [disk] },
    { signal: NEVER, claim: UNCONTESTED_CLAIM, observer: {}, warn: () => {}, ...context, clock: systemClock, random: withoutWaits },
  );
}
