import assert from 'node:assert/strict';
import fc from 'fast-check';
import { readScheduleTimes, type ScheduleTimes } from '../../../../src/controller/schedules/schedule-times.ts';

function timesOf(schedule: string, timeZone?: string): ScheduleTimes {
  const times = readScheduleTimes(schedule, timeZone);
  assert.ok(!('reason' in times), JSON.stringify(times));
  return times;
}

/** As a clock in the zone shows it, with the zone's offset: `2026-10-25 02:30 +02:00`. */
function local(timeMs: number, timeZone: string): string {
  const day = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'short' }).format(timeMs);
  const parts = new Intl.DateTimeFormat('en-US', { timeZone, timeZoneName: 'longOffset' }).formatToParts(timeMs);
  const offset = parts.find(({ type }) => type === 'timeZoneName')?.value.slice('GMT'.length);
  return `${day} ${offset || '+00:00'}`;
}

function following(times: ScheduleTimes, from: string, count: number): number[] {
  const found: number[] = [];
  for (let timeMs = Date.parse(from); found.length < count; ) {
    timeMs = times.nextMs(timeMs) as number;
    found.push(timeMs);
  }
  return found;
}

interface ChangeOfClock {
  sentence: string;
  zone: string;
  schedule: string;
  from: string;
  expected: readonly string[];
}

const BERLIN = 'Europe/Berlin';
const NEW_YORK = 'America/New_York';
/** Its clock changes by half an hour. */
const LORD_HOWE = 'Australia/Lord_Howe';
/** Its clock changes at midnight. */
const CAIRO = 'Africa/Cairo';

const CHANGES: readonly ChangeOfClock[] = [
  {
    sentence: 'a skipped time has no run that day',
    zone: BERLIN,
    schedule: '30 2 * * *',
    from: '2026-03-27T12:00:00Z',
    expected: ['2026-03-28 02:30 +01:00', '2026-03-30 02:30 +02:00'],
  },
  {
    sentence: 'the end of the skipped hour has its run',
    zone: BERLIN,
    schedule: '0 2,3 * * *',
    from: '2026-03-28T12:00:00Z',
    expected: ['2026-03-29 03:00 +02:00', '2026-03-30 02:00 +02:00'],
  },
  {
    sentence: 'a repeated time has two runs',
    zone: BERLIN,
    schedule: '30 2 * * *',
    from: '2026-10-24T12:00:00Z',
    expected: ['2026-10-25 02:30 +02:00', '2026-10-25 02:30 +01:00', '2026-10-26 02:30 +01:00'],
  },
  {
    sentence: 'every half hour passes through both repeated hours',
    zone: BERLIN,
    schedule: '*/30 * * * *',
    from: '2026-10-24T23:30:00Z',
    expected: [
      '2026-10-25 02:00 +02:00',
      '2026-10-25 02:30 +02:00',
      '2026-10-25 02:00 +01:00',
      '2026-10-25 02:30 +01:00',
      '2026-10-25 03:00 +01:00',
    ],
  },
  {
    sentence: 'a run between the two repetitions comes before the second',
    zone: BERLIN,
    schedule: '50,10 2 * * *',
    from: '2026-10-25T00:15:00Z',
    expected: ['2026-10-25 02:50 +02:00', '2026-10-25 02:10 +01:00', '2026-10-25 02:50 +01:00', '2026-10-26 02:10 +01:00'],
  },
  {
    sentence: 'a time once a year is not taken from the other half of the year',
    zone: BERLIN,
    schedule: '30 2 25 10 *',
    from: '2025-11-01T00:00:00Z',
    expected: ['2026-10-25 02:30 +02:00', '2026-10-25 02:30 +01:00', '2027-10-25 02:30 +02:00'],
  },
  {
    sentence: 'a skipped time has no run that day',
    zone: NEW_YORK,
    schedule: '15 2 * * *',
    from: '2026-03-07T00:00:00Z',
    expected: ['2026-03-07 02:15 -05:00', '2026-03-09 02:15 -04:00'],
  },
  {
    sentence: 'a repeated time has two runs',
    zone: NEW_YORK,
    schedule: '15 1 * * *',
    from: '2026-10-31T12:00:00Z',
    expected: ['2026-11-01 01:15 -04:00', '2026-11-01 01:15 -05:00', '2026-11-02 01:15 -05:00'],
  },
  {
    sentence: 'a skipped half hour has no run',
    zone: LORD_HOWE,
    schedule: '15,45 2 * * *',
    from: '2026-10-03T00:00:00Z',
    expected: ['2026-10-04 02:45 +11:00', '2026-10-05 02:15 +11:00'],
  },
  {
    sentence: 'a time after the skipped half hour has its run',
    zone: LORD_HOWE,
    schedule: '0 3 * * *',
    from: '2026-10-03T00:00:00Z',
    expected: ['2026-10-04 03:00 +11:00', '2026-10-05 03:00 +11:00'],
  },
  {
    sentence: 'a repeated half hour has two runs',
    zone: LORD_HOWE,
    schedule: '15,45 1 * * *',
    from: '2026-04-04T00:00:00Z',
    expected: ['2026-04-05 01:15 +11:00', '2026-04-05 01:45 +11:00', '2026-04-05 01:45 +10:30', '2026-04-06 01:15 +10:30'],
  },
  {
    sentence: 'a midnight that is skipped has no run',
    zone: CAIRO,
    schedule: '@daily',
    from: '2026-04-22T00:00:00Z',
    expected: ['2026-04-23 00:00 +02:00', '2026-04-25 00:00 +03:00'],
  },
];

describe('the times of a schedule', () => {
  describe('where the clock changes', () => {
    for (const { sentence, zone, schedule, from, expected } of CHANGES)
      it(`${sentence}: ${schedule} in ${zone}`, () => {
        const found = following(timesOf(schedule, zone), from, expected.length);
        assert.deepEqual(
          found.map((timeMs) => local(timeMs, zone)),
          expected,
        );
      });
  });

  const notations: [string, string, string[]][] = [
    ['UTC when there is no time zone', '30 2 * * *', ['2026-01-01T02:30:00Z', '2026-01-02T02:30:00Z']],
    [
      'a start with a step as a range to the end',
      '20/15 3 * * *',
      ['2026-01-01T03:20:00Z', '2026-01-01T03:35:00Z', '2026-01-01T03:50:00Z'],
    ],
    ['a day of the month or a day of the week', '0 0 15 * MON', ['2026-01-05T00:00:00Z', '2026-01-12T00:00:00Z', '2026-01-15T00:00:00Z']],
    [
      'a list with * as every day, so that only the other field decides',
      '0 0 *,15 * MON',
      ['2026-01-05T00:00:00Z', '2026-01-12T00:00:00Z', '2026-01-19T00:00:00Z'],
    ],
    ['*/1 as *', '0 0 */1 * MON', ['2026-01-05T00:00:00Z', '2026-01-12T00:00:00Z']],
    ['*/2 as a list of days', '0 0 */2 * MON', ['2026-01-03T00:00:00Z', '2026-01-05T00:00:00Z', '2026-01-07T00:00:00Z']],
    ['7 as Sunday', '0 0 * * 7', ['2026-01-04T00:00:00Z', '2026-01-11T00:00:00Z']],
    ['? as *', '0 12 ? JAN ?', ['2026-01-01T12:00:00Z', '2026-01-02T12:00:00Z']],
    ['names of days', '0 0 * * sat-sat', ['2026-01-03T00:00:00Z']],
    ['February 29, with years between', '0 0 29 2 *', ['2028-02-29T00:00:00Z', '2032-02-29T00:00:00Z']],
    ['@weekly', '@weekly', ['2026-01-04T00:00:00Z']],
    ['@monthly', '@monthly', ['2026-02-01T00:00:00Z']],
    ['@annually', '@annually', ['2027-01-01T00:00:00Z']],
    ['@midnight', '@midnight', ['2026-01-02T00:00:00Z']],
  ];
  for (const [what, schedule, expected] of notations)
    it(`take ${what}`, () => {
      const found = following(timesOf(schedule), '2026-01-01T00:00:00Z', expected.length);
      assert.deepEqual(
        found,
        expected.map((each) => Date.parse(each)),
      );
    });

  for (const schedule of [
    ...['', '* * * *', '* * * * * *', '@every 1h', '@reboot', 'x x x x x', '60 * * * *', '* 24 * * *', '0 0 0 * *', '0 0 * 13 *'],
    ...[
      '5-1 * * * *',
      '*/0 * * * *',
      '0 0 31 2 *',
      '0 0 L * *',
      '0 0 * * MON#2',
      '0 0 15W * *',
      '/5 * * * *',
      '0 0 * * +MON',
      '2026-01-01T00:00:00',
    ],
  ])
    it(`refuse ${JSON.stringify(schedule)} in one line`, () => {
      const problem = readScheduleTimes(schedule, BERLIN);
      assert.ok('reason' in problem);
      assert.equal(problem.reason, 'InvalidSchedule');
      assert.match(problem.message, /^spec\.schedule: [^\n]+$/);
    });

  for (const zone of ['Europe/Nowhere', 'Local', 'GMT+2', '', '../UTC'])
    it(`refuse the time zone ${JSON.stringify(zone)}`, () => {
      assert.partialDeepStrictEqual(readScheduleTimes('@daily', zone), { reason: 'UnknownTimeZone' });
    });

  it('find the last of millions of missed runs by a few steps', () => {
    const times = timesOf('* * * * *', BERLIN);
    const startMs = performance.now();
    assert.equal(times.lastMs(Date.parse('2016-01-01'), Date.parse('2026-11-30T01:00:59Z')), Date.parse('2026-11-30T01:00:00Z'));
    assert.ok(performance.now() - startMs < 1000);
  });

  it('have a last time that is the last of all following ones', () => {
    const day = 86_400_000;
    const schedules = fc.constantFrom('30 2 * * *', '*/20 1-3 * * 0,6', '0 0 1 * *', '15,45 1,2 * * *', '0 */7 * * *');
    const zones = fc.constantFrom(BERLIN, NEW_YORK, LORD_HOWE, CAIRO, 'UTC', 'Asia/Kathmandu');
    const starts = fc.integer({ min: Date.UTC(2026, 0), max: Date.UTC(2027, 0) });
    fc.assert(
      fc.property(schedules, zones, starts, fc.integer({ min: 0, max: 40 * day }), (schedule, zone, afterMs, lengthMs) => {
        const times = timesOf(schedule, zone);
        let last: number | undefined;
        for (let timeMs = times.nextMs(afterMs); timeMs !== undefined && timeMs <= afterMs + lengthMs; timeMs = times.nextMs(timeMs)) {
          assert.ok(timeMs > (last ?? afterMs));
          last = timeMs;
        }
        assert.equal(times.lastMs(afterMs, afterMs + lengthMs), last);
      }),
      { numRuns: 60 },
    );
  });
});
