/** Schedules and their exports as the API server sends them. */

import { timestamp } from '../../../../src/common/clock.ts';
import type { ScheduleObject } from '../../../../src/stores/kubernetes/client/fleet-objects.ts';
import type { ExportObject } from '../../../../src/stores/kubernetes/client/objects.ts';

export const UID = 'schedule-uid';

const TEMPLATE = {
  metadata: { labels: { team: 'storage' }, annotations: { note: 'nightly' } },
  spec: {
    source: { persistentVolumeClaim: { claimName: 'fedora-root' } },
    destination: { http: { url: 'https://images.example/{scheduledTime}.qcow2' } },
  },
};

export function scheduleObject(spec: Record<string, unknown> = {}, more: Record<string, unknown> = {}): ScheduleObject {
  return {
    metadata: {
      name: 'nightly',
      namespace: 'vms',
      uid: UID,
      resourceVersion: '1',
      generation: 1,
      creationTimestamp: '2026-01-01T00:00:00Z',
    },
    spec: { schedule: '0 2 * * *', exportTemplate: TEMPLATE, ...spec },
    ...more,
  };
}

export interface ExportFacts {
  scheduledTime: string;
  phase?: 'Pending' | 'Succeeded' | 'Failed' | 'Cancelled';
  completionTime?: string;
  cancel?: boolean;
  isTerminating?: boolean;
  owner?: string;
}

export function nameOf(scheduledTime: string): string {
  return `nightly-${Date.parse(scheduledTime) / 60_000}`;
}

export function exportObject({ scheduledTime, phase = 'Pending', owner = UID, ...facts }: ExportFacts): ExportObject {
  const { completionTime = timestamp(Date.parse(scheduledTime) + 1_800_000), cancel = false, isTerminating = false } = facts;
  const name = nameOf(scheduledTime);
  return {
    metadata: {
      name,
      namespace: 'vms',
      uid: `uid-of-${name}`,
      resourceVersion: '2',
      labels: { 'disklift.dev/schedule': 'nightly' },
      annotations: { 'disklift.dev/scheduled-time': scheduledTime },
      ownerReferences: [{ apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExportSchedule', name: 'nightly', uid: owner }],
      ...(isTerminating ? { deletionTimestamp: '2026-01-09T00:00:00Z' } : {}),
    },
    spec: { ...TEMPLATE.spec, cancel },
    status: phase === 'Pending' ? { phase } : { phase, startTime: scheduledTime, completionTime },
  };
}
