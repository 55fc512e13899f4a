import assert from 'node:assert/strict';
import { systemClock } from '../../../src/common/clock.ts';
import { createControllerMetrics } from '../../../src/metrics/controller-metrics.ts';

const STATE = { isSuspended: false, lastSuccessMs: 1_000_000, nextMs: 2_000_000, overdueMs: 3_000_000 };

describe('the series of schedules', () => {
  const metrics = createControllerMetrics({ version: '0.0.0', clock: systemClock, facts: () => undefined, silenceMs: () => undefined });

  async function series(): Promise<Record<string, number>> {
    const { text } = await metrics.scrape('prometheus');
    const lines = [...text.matchAll(/^disklift_schedule_(\w+)\{export_namespace="vms",schedule="nightly"\} (\S+)$/gm)];
    return Object.fromEntries(lines.map(([, name, value]) => [name, Number(value)]));
  }

  it('have the times in seconds', async () => {
    metrics.schedules.onSchedule('vms', 'nightly', STATE);
    assert.deepEqual(await series(), {
      last_success_timestamp_seconds: 1000,
      next_timestamp_seconds: 2000,
      overdue_timestamp_seconds: 3000,
      suspended: 0,
    });
  });

  it('have no next time while the schedule is suspended, and 0 before the first success', async () => {
    metrics.schedules.onSchedule('vms', 'nightly', { ...STATE, isSuspended: true, lastSuccessMs: undefined, nextMs: undefined });
    assert.deepEqual(await series(), { last_success_timestamp_seconds: 0, overdue_timestamp_seconds: 3000, suspended: 1 });
  });

  it('go away with the schedule', async () => {
    metrics.schedules.onScheduleGone('vms', 'nightly');
    assert.deepEqual(await series(), {});
  });
});
