/** Schedules in every state, for people to look at. */

import type { Condition } from '../../src/resource/disk-export.ts';
import type { DiskExportScheduleSpec } from '../../src/resource/export-schedule.ts';
import { validateDiskExport } from '../../src/resource/validate.ts';
import type { ScheduleFacts } from '../../src/server/schedule-view.ts';
import { diskExport } from './manifest.ts';

function spec(schedule: string, suspend: boolean, timeZone?: string): DiskExportScheduleSpec {
  return {
    schedule,
    suspend,
    ...(timeZone === undefined ? {} : { timeZone }),
    concurrencyPolicy: 'Forbid',
    successfulExportsHistoryLimit: 3,
    failedExportsHistoryLimit: 1,
    exportTemplate: { spec: validateDiskExport(diskExport('any', { http: { url: 'https://backup.example/{disk}' } })).spec },
  };
}

const condition = (type: string, status: Condition['status'], reason: string, message: string): Condition => ({
  type,
  status,
  reason,
  message,
});
const READY = condition('Ready', 'True', 'Scheduled', 'The schedule creates its exports.');

export function schedulesOnShow(): ScheduleFacts[] {
  const metadata = (name: string) => ({ namespace: 'vms', name });
  const unreadable = 'spec.schedule: must have five fields, or be one of @hourly, @daily, @weekly, @monthly and @yearly';
  const since = 'The last success was at 2026-01-05T01:12:40Z';
  return [
    {
      metadata: metadata('mail-weekly'),
      spec: spec('@weekly', false),
      status: {
        lastSuccessfulTime: '2026-01-04T00:31:07Z',
        nextScheduleTime: '2026-01-11T00:00:00Z',
        activeCount: 1,
        conditions: [
          READY,
          condition('UpToDate', 'True', 'ExportSucceeded', `${since}. The next one is expected by 2026-01-12T00:00:00Z.`),
        ],
      },
    },
    {
      metadata: metadata('build-runners'),
      spec: spec('30 4 * * 1-5', true),
      status: { conditions: [condition('Ready', 'True', 'Suspended', 'The schedule is suspended: it creates no exports.')] },
    },
    {
      metadata: metadata('databases'),
      spec: spec('0 2 * * *', false, 'Europe/Berlin'),
      status: {
        lastSuccessfulTime: '2026-01-05T01:12:40Z',
        nextScheduleTime: '2026-01-08T01:00:00Z',
        conditions: [READY, condition('UpToDate', 'False', 'Overdue', `${since}. The schedule is overdue since 2026-01-06T13:00:00Z.`)],
      },
    },
    {
      metadata: metadata('erp'),
      spec: spec('every night', false),
      status: { conditions: [condition('Ready', 'False', 'InvalidSchedule', unreadable)] },
    },
  ];
}
