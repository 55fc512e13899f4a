/** Writes what the controller reports into the status of an export, and records events. */

import type { Clock } from '../common/clock.ts';
import { invalidStatusOf } from '../engine/export-status.ts';
import type { DiskExport, DiskExportStatus } from '../resource/disk-export.ts';
import type { StoredRequest } from '../stores/contract.ts';
import { isApiFailure } from '../stores/kubernetes/client/api-failure.ts';
import type { FleetApi } from '../stores/kubernetes/client/fleet-api.ts';
import type { ExportObject } from '../stores/kubernetes/client/objects.ts';
import type { EventPoster } from '../stores/kubernetes/store/kubernetes-events.ts';
import { statusPatch } from '../stores/kubernetes/store/status-queue.ts';
import type { Report } from './decision.ts';
import type { FleetCache } from './fleet-cache.ts';
import { eventsOf, reportedStatusOf } from './report-status.ts';

export interface ReportWriterOptions {
  api: Pick<FleetApi, 'exports'>;
  cache: Pick<FleetCache, 'exports'>;
  clock: Pick<Clock, 'nowMs'>;
  events: EventPoster;
  /** Awaited before each change. @throws DiskliftError `ExecutorLost` when another controller may lead */
  assertLeading(): Promise<void>;
  /** Called for each event of type Warning. */
  onWarning(reason: string): void;
}

export interface ReportWriter {
  /**
   * @param object the version on which the report is based
   * @param request in its latest version
   * @returns false when the object has changed meanwhile
   * @throws DiskliftError of the API server; `ExecutorLost`
   */
  write(object: ExportObject, request: DiskExport, report: Report): Promise<boolean>;
  /** @throws DiskliftError of the API server; `ExecutorLost` */
  writeInvalid(object: ExportObject, stored: StoredRequest & { kind: 'invalid' }): Promise<void>;
}

export function createReportWriter({ api, cache, clock, events, assertLeading, onWarning }: ReportWriterOptions): ReportWriter {
  /** Sends the version: a worker may have claimed the export. */
  async function patch({ metadata }: ExportObject, status: DiskExportStatus): Promise<void> {
    await assertLeading();
    const { uid, resourceVersion } = metadata;
    const change = { status: statusPatch(status), metadata: { uid, resourceVersion } };
    cache.exports.learn(await api.exports.patch(metadata, { patch: change, subresource: 'status' }));
  }

  return {
    async write(object, request, report) {
      const status = reportedStatusOf(request, report, clock.nowMs());
      if (status === undefined) return true;
      try {
        await patch(object, status);
      } catch (error) {
        if (isApiFailure(error, 'Conflict') || isApiFailure(error, 'NotFound')) return false;
        throw error;
      }
      for (const event of eventsOf(request, report)) {
        void events.post(object, event);
        if (event.type === 'Warning') onWarning(event.reason);
      }
      return true;
    },
    async writeInvalid(object, stored) {
      const status = invalidStatusOf(stored, clock.nowMs());
      if (status !== undefined) await patch(object, status);
    },
  };
}
