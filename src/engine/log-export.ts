/** Logs one line for each event of a run. */

import type { Logger } from '../common/logger.ts';
import { destinationName } from '../resource/destination-kinds.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import type { DiskState, ExportWatcher, RequestObserver } from './observer.ts';

export function createExportLog(logger: Logger): RequestObserver {
  return { onBegin: (_key, request) => logRun(logger, request) };
}

function logRun(logger: Logger, request: DiskExport): ExportWatcher {
  const { name, namespace, uid } = request.metadata;
  const log = logger.child({ namespace, export: name, uid });
  const phases = new Map<string, string>();
  log.info({ destination: destinationName(request) }, 'export claimed');

  function onChange(disk: DiskState): void {
    const { path, phase, attempts, virtualBytes, imageBytes, receipt, failure } = disk;
    if (phases.get(path) === phase) return;
    phases.set(path, phase);
    const facts = { disk: path, attempt: attempts };
    if (phase === 'Scanning') log.info(facts, 'scan begins');
    else if (phase === 'Streaming') log.info({ ...facts, virtualBytes, imageBytes, clusters: disk.clusters }, 'transfer begins');
    else if (phase === 'Succeeded')
      log.info({ ...facts, location: receipt?.location, imageBytes, sha256: receipt?.sha256, proof: receipt?.proof }, 'disk has arrived');
    else if (phase === 'Failed' || phase === 'Cancelled')
      log.error({ ...facts, reason: failure?.code, error: failure?.message }, 'disk has not arrived');
  }

  return {
    observer: {
      onChange,
      onRetry: ({ path, attempts }, { code, message }, delayMs) =>
        log.warn({ disk: path, attempt: attempts, reason: code, error: message, delayMs }, 'attempt failed and will be retried'),
      onImageType: ({ path }, type) => {
        const facts = { disk: path, type: type.type, reason: type.reason };
        if (type.type === 'Incremental') log.info({ ...facts, base: type.base.location }, 'image holds what has changed');
        else log.warn({ ...facts, why: type.message }, 'image is full');
      },
      onReceiptRefused: ({ path }, refusal) => log.warn({ disk: path, error: refusal }, 'image has no receipt'),
      onWait: ({ path, attempts }, { code, message }) =>
        log.warn({ disk: path, attempt: attempts + 1, reason: code, error: message }, 'waits until the disk is free'),
    },
    end: (phase) => log.info({ phase }, phase === 'Pending' ? 'export handed over to another process' : 'export has ended'),
  };
}
