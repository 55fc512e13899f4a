/** Implements `disklift export`. */

import { randomUUID } from 'node:crypto';
import { stringify } from 'yaml';
import { createBufferPool } from '../../common/buffers.ts';
import { DiskliftError } from '../../common/errors.ts';
import { startTimeLimit, type TimeLimit } from '../../common/time-limit.ts';
import { proxyEnvironment } from '../../config/environment.ts';
import { runRequest } from '../../engine/run-request.ts';
import { createNetworkAccess } from '../../network/destination-policy.ts';
import type { DiskExport, DiskExportStatus } from '../../resource/disk-export.ts';
import { readRequestFile } from '../../stores/directory/read-manifests.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { BUFFER_BYTES, composePlan } from '../../wiring/export.ts';
import { parseVolumes } from '../options.ts';
import { createProgress, progressObserver } from '../progress.ts';
import { printOutput } from '../standard-output.ts';

export interface ExportFlags {
  file: string;
  volume: string[];
  progress: 'auto' | 'json' | 'none';
}

export async function exportDisks(flags: ExportFlags, context: CommandContext): Promise<void> {
  const { request: asWritten, resolve } = await readRequestFile(flags.file, {
    clock: context.clock,
    signal: context.signal,
    warn: context.warn,
  });
  // No other run is the same export, also in the same second: a receipt of that one is no reason to send nothing.
  const request: DiskExport = { ...asWritten, metadata: { ...asWritten.metadata, uid: randomUUID() } };
  const environment = {
    context,
    volumes: parseVolumes(flags.volume),
    resolve,
    // The file contains all objects that the request refers to.
    referencesMayCome: false,
    // The user of this command may send anywhere, so no policy applies.
    access: createNetworkAccess(),
    allowAmbientCredentials: true,
    proxy: proxyEnvironment(),
    buffers: createBufferPool(BUFFER_BYTES),
    clock: context.clock,
    random: Math.random,
  };
  const progress = await createProgress(flags.progress, process.stderr);
  const notice = explainDelay(context);
  let status: DiskExportStatus;
  try {
    ({ status } = await runRequest({
      request,
      ...context,
      random: Math.random,
      plan: () => composePlan(request, environment),
      watchers: [{ observer: progressObserver(progress, context.warn), end: () => {} }],
      // No other process can claim this export or resume it, so an interrupt aborts its upload as well.
      lost: new AbortController().signal,
      stopping: new AbortController().signal,
      assertHeld: async () => {},
      writeStatus: async () => {},
      setCleanupPending: async () => {},
      isTerminating: () => false,
      recordEvent: async () => {},
    }));
  } finally {
    notice.stop();
    progress.stop();
  }
  await printOutput(statusText(request, status), context);
  if (status.phase !== 'Succeeded') throw failureOf(status, context.signal);
}

/** A cancelled export that still runs after this time aborts its upload. */
const NOTICE_MS = 1000;

function explainDelay({ signal, clock, warn }: CommandContext): TimeLimit {
  const expired = new DiskliftError('Cancelled', 'the destination has not aborted the upload yet');
  const limit = startTimeLimit({ clock, limitMs: NOTICE_MS, expired, after: signal });
  const text =
    'the upload is being aborted, which takes 8 s at most; a second signal ends at once, and the upload stays at the destination';
  limit.signal.addEventListener('abort', () => warn(text), { once: true });
  return limit;
}

function statusText({ apiVersion, kind, metadata }: DiskExport, status: DiskExportStatus): string {
  const { name, namespace, uid } = metadata;
  return stringify({ apiVersion, kind, metadata: { name, namespace, uid }, status });
}

function failureOf({ conditions = [], message = 'failed' }: DiskExportStatus, signal: AbortSignal): DiskliftError {
  if (signal.reason instanceof DiskliftError) return signal.reason;
  const reason = conditions.find(({ type }) => type === 'Succeeded')?.reason;
  return new DiskliftError((reason ?? 'DestinationUnreachable') as DiskliftError['code'], `${reason}: ${message}`);
}
