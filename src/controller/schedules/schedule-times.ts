/**
 * The times of a schedule: cron in a time zone. The library reads the expression and computes its times on a clock that
 * never changes. The changes of local clocks are handled here, as a CronJob handles them:
 *
 * - A local time that is skipped has no run that day.
 * - A local time that occurs twice has two runs.
 */

import { Cron } from 'croner';

export interface ScheduleTimes {
  /** The first time after `afterMs`, in milliseconds since the epoch; undefined when no time follows. */
  nextMs(afterMs: number): number | undefined;
  /** The last time after `afterMs` and up to `untilMs`. The effort does not depend on the number of times between. */
  lastMs(afterMs: number, untilMs: number): number | undefined;
}

export interface ScheduleProblem {
  /** Reason of the condition Ready. */
  reason: 'InvalidSchedule' | 'UnknownTimeZone';
  message: string;
}

/** One number, name, range or `*`, with or without a step. A twin of the rule in the CRD. */
const ITEM = `(?:[*?]|(?:[0-9]{1,2}|[A-Za-z]{3})(?:-(?:[0-9]{1,2}|[A-Za-z]{3}))?)(?:/[0-9]{1,2})?`;
const FIELD = `${ITEM}(?:,${ITEM})*`;
const NOTATION = new RegExp(`^(?:@(?:hourly|daily|midnight|weekly|monthly|yearly|annually)|${FIELD}(?: +${FIELD}){4})$`);

/** @param timeZone the default is UTC */
export function readScheduleTimes(schedule: string, timeZone = 'UTC'): ScheduleTimes | ScheduleProblem {
  const offsetMs = readTimeZone(timeZone);
  if (offsetMs === undefined)
    return {
      reason: 'UnknownTimeZone',
      message: `spec.timeZone: ${JSON.stringify(timeZone)} is no time zone that this version of Node knows`,
    };
  const cron = readCron(schedule);
  if (typeof cron === 'string') return { reason: 'InvalidSchedule', message: `spec.schedule: ${cron}` };
  return createTimes(cron, offsetMs);
}

/** @returns what is wrong when the expression cannot be used */
function readCron(schedule: string): Cron | string {
  if (!NOTATION.test(schedule)) return 'must have five fields, or be one of @hourly, @daily, @weekly, @monthly and @yearly';
  try {
    // `5/15` means 5-59/15, as in a CronJob.
    const cron = new Cron(withPlainStars(schedule), { timezone: 'UTC', mode: '5-part', sloppyRanges: true });
    return cron.nextRun(new Date(0)) === null ? 'names a day that no month has' : cron;
  } catch (error) {
    return (error as Error).message.replace(/^CronPattern: /, '');
  }
}

/**
 * A field that has `*` among its items matches every day, so that the other field of days decides alone. The
 * library has that rule only for a field that is nothing but `*`.
 */
function withPlainStars(schedule: string): string {
  const fields = schedule.split(/ +/);
  return fields.map((field) => (field.split(',').some((item) => /^[*?](\/0?1)?$/.test(item)) ? '*' : field)).join(' ');
}

/** Milliseconds by which local time is ahead of UTC at a moment. */
type OffsetAt = (timeMs: number) => number;

function readTimeZone(timeZone: string): OffsetAt | undefined {
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat('en-US', { timeZone, timeZoneName: 'longOffset' });
  } catch {
    return undefined;
  }
  return (timeMs) => {
    const text = format.formatToParts(timeMs).find(({ type }) => type === 'timeZoneName')?.value ?? '';
    // `GMT`, `GMT+01:00`, or with seconds in the times before standard time.
    const { sign, hours = 0, minutes = 0, seconds = 0 } = OFFSET.exec(text)?.groups ?? {};
    return (sign === '-' ? -1000 : 1000) * (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds));
  };
}

const OFFSET = /^GMT(?:(?<sign>[+-])(?<hours>\d\d):(?<minutes>\d\d)(?::(?<seconds>\d\d))?)?$/;

/** No zone changes its clock twice within this time. */
const STEP_MS = 7 * 86_400_000;

/** @returns the first moment after `fromMs`, and not after `untilMs`, that has another offset */
function firstChange(offsetAt: OffsetAt, fromMs: number, untilMs: number): number | undefined {
  const offsetMs = offsetAt(fromMs);
  let [sameMs, otherMs] = [fromMs, fromMs];
  while (offsetAt(otherMs) === offsetMs) {
    if (otherMs >= untilMs) return undefined;
    sameMs = otherMs;
    otherMs = Math.min(otherMs + STEP_MS, untilMs);
  }
  while (otherMs - sameMs > 1) {
    const middleMs = Math.floor((sameMs + otherMs) / 2);
    if (offsetAt(middleMs) === offsetMs) sameMs = middleMs;
    else otherMs = middleMs;
  }
  return otherMs;
}

function createTimes(cron: Cron, offsetAt: OffsetAt): ScheduleTimes {
  /** Between two changes of the clock, local time is a clock that never changes. Each loop takes one such interval. */
  function nextMs(afterMs: number): number | undefined {
    let beginMs = Math.floor(afterMs) + 1;
    for (;;) {
      const offsetMs = offsetAt(beginMs);
      const local = cron.nextRun(new Date(beginMs - 1 + offsetMs));
      if (local === null) return undefined;
      const timeMs = local.getTime() - offsetMs;
      const changeMs = firstChange(offsetAt, beginMs, timeMs);
      if (changeMs === undefined) return timeMs;
      beginMs = changeMs;
    }
  }

  function lastMs(afterMs: number, untilMs: number): number | undefined {
    const isTime = (timeMs: number | undefined): timeMs is number => timeMs !== undefined && timeMs <= untilMs;
    let lastKnownMs = nextMs(afterMs);
    if (!isTime(lastKnownMs)) return undefined;
    for (let endMs = untilMs; isTime(nextMs(lastKnownMs)); ) {
      const middleMs = Math.floor((lastKnownMs + endMs) / 2);
      const timeMs = nextMs(middleMs);
      if (isTime(timeMs)) lastKnownMs = timeMs;
      else endMs = middleMs;
    }
    return lastKnownMs;
  }

  return { nextMs, lastMs };
}
