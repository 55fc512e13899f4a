/** The DiskExportSchedule resource with all defaults filled in. Generated from manifests/crd-schedules.yaml by `make generate`: change it there. */

import type { Condition, DiskExportSpec, ObjectMetadata } from './disk-export.ts';

/** A schedule by which disklift creates DiskExports, and its status. */
export interface DiskExportSchedule {
  apiVersion: 'disklift.dev/v1alpha1';
  kind: 'DiskExportSchedule';
  metadata: ObjectMetadata;
  spec: DiskExportScheduleSpec;
  status?: DiskExportScheduleStatus;
}
/** The times of the exports, and the template from which each of them is created. */
export interface DiskExportScheduleSpec {
  /** Times in the notation of cron: minute, hour, day of the month, month, day of the week; or @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually. With both a day of the month and a day of the week, one of them must match. A local time that a change of the clock skips has no run that day. A local time that occurs twice has two runs. */
  schedule: string;
  /** Name of the time zone in which the schedule is read, such as Europe/Berlin. When absent, UTC. */
  timeZone?: string;
  /** Whether no further exports are created. Exports that run go on. A run that was missed meanwhile is started later as startingDeadlineSeconds permits. */
  suspend: boolean;
  /** The rule for a run that is due while an earlier export has not ended. Forbid: the run starts when the earlier export has ended, unless a later run is due by then. Replace: disklift cancels the earlier export, and starts the run when that has ended. Allow: the run starts at once. */
  concurrencyPolicy: 'Allow' | 'Forbid' | 'Replace';
  /** Seconds after its scheduled time during which a missed run may still start. When absent, there is no limit. Only the last of several missed runs starts. */
  startingDeadlineSeconds?: number;
  /** Number of succeeded exports that are kept. The oldest ones are deleted; their images are not. */
  successfulExportsHistoryLimit: number;
  /** Number of failed and cancelled exports that are kept. The oldest ones are deleted. */
  failedExportsHistoryLimit: number;
  exportTemplate: ExportTemplate;
}
/** The template of the DiskExports. A change affects later exports only. */
export interface ExportTemplate {
  metadata?: TemplateMetadata;
  spec: DiskExportSpec;
}
/** Metadata of each DiskExport. */
export interface TemplateMetadata {
  /** Labels of each DiskExport, beside disklift.dev/schedule. */
  labels?: {
    [k: string]: string;
  };
  /** Annotations of each DiskExport, beside disklift.dev/scheduled-time. */
  annotations?: {
    [k: string]: string;
  };
}
/** State of the schedule. Programs should read the conditions. */
export interface DiskExportScheduleStatus {
  /** Generation of the schedule that this status describes. */
  observedGeneration?: number;
  /** Names of the exports that have not ended, at most 100. */
  active?: string[];
  /** Number of the exports that have not ended. */
  activeCount?: number;
  /** Scheduled time of the newest export. */
  lastScheduleTime?: string;
  /** Time at which an export last ended with success. It stays when that export is deleted. */
  lastSuccessfulTime?: string;
  /** Time of the next export. Absent while the schedule is suspended or cannot be read. */
  nextScheduleTime?: string;
  /** Ready: False if the schedule or the time zone cannot be read. UpToDate: False if no export has succeeded since the next run after the last success was due; the run has half the time to the run after it, at least 10 minutes and at most 24 hours. */
  conditions?: Condition[];
}
