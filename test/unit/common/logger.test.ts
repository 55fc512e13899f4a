import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import path from 'node:path';
import { createLogger, type LoggerOptions, logLineForPeople } from '../../../src/common/logger.ts';
import { readAll } from '../../helpers/run-command.ts';

function log(format: LoggerOptions['format'], level = 'info') {
  const lines: string[] = [];
  return { lines, logger: createLogger({ level, format, write: (line) => void lines.push(line) }) };
}

/** Runs a program that logs to `stderr` as its standard error, and then prints a sign of life. */
async function logInto(stderr: number): Promise<string> {
  const source = path.join(import.meta.dirname, '../../../src/common/logger.ts');
  const script = `import { createLogger } from ${JSON.stringify(source)};
    const logger = createLogger({ level: 'info', format: 'json' });
    for (let line = 0; line < 3; line += 1) { logger.info('a line'); await new Promise(setImmediate); }
    process.stdout.write('alive');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', stderr] });
  return (await readAll(child.stdout)).toString();
}

describe('the log', () => {
  it('ends no process when its disk is full', async () => {
    const full = openSync('/dev/full', 'w');
    assert.equal(await logInto(full), 'alive');
    closeSync(full);
  });

  it('is a line of JSON an event, with its subject', () => {
    const { lines, logger } = log('json');
    logger.child({ namespace: 'vms', export: 'nightly' }).info({ disk: 'a.img', attempt: 2 }, 'transfer begins');
    logger.debug('not wanted');
    assert.equal(lines.length, 1);
    const { time, ...fields } = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
    assert.deepEqual(fields, { level: 'info', namespace: 'vms', export: 'nightly', disk: 'a.img', attempt: 2, msg: 'transfer begins' });
    assert.match(String(time), /^\d{4}-\d\d-\d\dT.*Z$/);
  });

  it('is a line for people, too', () => {
    const { lines, logger } = log('text');
    logger
      .child({ namespace: 'vms', export: 'nightly', uid: 'u' })
      .warn({ disk: 'a.img', attempt: 2, reason: 'Gone', delayMs: 5, error: 'two words' }, 'will be made again');
    assert.match(
      lines[0] ?? '',
      /^\d\d:\d\d:\d\d WARN {2}vms\/nightly a\.img #2: will be made again reason=Gone delayMs=5 error="two words"\n$/,
    );
  });

  for (const format of ['json', 'text'] as const)
    it(`contains no secret, as ${format}`, () => {
      const { lines, logger } = log(format);
      const error = 'https://user:pl4nted@x/?pl4nted';
      logger.child({ url: error }).warn({ error, headers: { authorization: 'Bearer pl4nted' } }, `${error} token: pl4nted`);
      logger.error(new Error(error));
      assert.equal(lines.length, 2);
      assert.ok(!lines.join('').includes('pl4nted'), lines.join(''));
    });

  it('stays one line without control characters for any name of an export', () => {
    const hostile = 'a\n2026 INFO forged\r\u001b[2J\u001b]0;x\u0007\u009b31m\u202egpj';
    const { lines, logger } = log('text');
    logger.info({ namespace: hostile, export: hostile, disk: hostile, other: hostile }, hostile);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    assert.match(lines[0] ?? '', /^[^\u0000-\u001f\u007f-\u009f\u202e]*\n$/);
    const json = log('json');
    json.logger.info({ export: hostile }, hostile);
    assert.equal(json.lines[0]?.trim().split('\n').length, 1);
    assert.ok(!json.lines[0]?.includes('\u202e'));
    assert.equal(JSON.parse(json.lines[0] ?? '').export, hostile, 'a program reads the text as it is');
  });

  it('has no fields of other events', () => {
    assert.equal(
      logLineForPeople({ level: 'info', time: '2026-01-01T12:30:00.000Z', msg: 'sidecar ends' }),
      '12:30:00 INFO  sidecar ends\n',
    );
  });
});
