import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { runCommand } from '../../helpers/run-command.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

const ROOT = path.join(import.meta.dirname, '..', '..', '..');
const RUNNER = path.join(ROOT, 'test', 'tools', 'run-tests.ts');

const PASSES = `it('is right', () => {});\n`;
const FAILS = `it('is wrong', () => { throw new Error('one is not two'); });\n`;
const CRASHES = `it('is killed', () => { process.kill(process.pid, 'SIGKILL'); return new Promise(() => {}); });\n`;
const HANGS = `it('is right', () => {}); after(() => void setInterval(() => {}, 1000));\n`;
const NO_TESTS = 'export {};\n';
const NO_MODULE = `import './there-is-none.ts';\n${PASSES}`;
const ENDS_EARLY = `it('is right', () => process.exit(0));\n`;
const FAILS_LATE = `it('is right', () => {}); after(() => void setTimeout(() => { throw new Error('too late'); }, 300));\n`;
const SKIPS = `it.skip('is left out', () => {});\n${PASSES}`;

describe('the runner of the tests', () => {
  const temp = useTempDir();

  async function run(files: Record<string, string>, ...flags: string[]) {
    for (const [name, text] of Object.entries(files)) writeFileSync(temp(`${name}.test.ts`), text);
    const { code, stdout } = await runCommand(process.execPath, [RUNNER, ...flags, temp('.')]);
    const lines = stdout.toString().trimEnd().split('\n');
    return { code, text: lines.join('\n'), total: lines.at(-1) };
  }

  it('sums up the tests of all files, and ends well when none has failed', async () => {
    const { code, total } = await run({ a: PASSES, b: SKIPS, c: PASSES + PASSES.replace('right', 'right again') });
    assert.deepEqual([code, total], [0, '4 passed, 0 failed, 1 skipped']);
  });

  it('repeats a failure with its message and its stack behind everything else', async () => {
    const { code, text, total } = await run({ a: FAILS, b: PASSES }, '--workers', '1');
    assert.deepEqual([code, total], [1, '1 passed, 1 failed']);
    const end = text.slice(text.indexOf('=== Failures in'));
    assert.match(end, /a\.test\.ts[\s\S]*is wrong[\s\S]*Error: one is not two\n\s+at .*a\.test\.ts:1/);
  });

  const breakdowns: [what: string, text: string, passed: number, message: RegExp][] = [
    ['is killed', CRASHES, 0, /was killed by SIGKILL/],
    ['has no tests', NO_TESTS, 0, /has no tests/],
    ['cannot be loaded', NO_MODULE, 0, /ended with code 1 before its tests had[\s\S]*there-is-none/],
    ['ends before its tests', ENDS_EARLY, 0, /ended with code 0 before its tests had/],
    ['throws after its tests', FAILS_LATE, 1, /ended with code 7 although no test failed[\s\S]*too late/],
  ];
  for (const [what, text, passed, message] of breakdowns)
    it(`counts a file as a failure that ${what}`, async () => {
      const outcome = await run({ a: text, b: PASSES });
      assert.deepEqual([outcome.code, outcome.total], [1, `${passed + 1} passed, 1 failed`]);
      assert.match(outcome.text.slice(outcome.text.indexOf('=== Failures in')), message);
    });

  it('kills a file that does not end within its limit, and counts that as a failure', async () => {
    const { code, text, total } = await run({ a: HANGS }, '--limit-seconds', '5');
    assert.deepEqual([code, total], [1, '1 passed, 1 failed']);
    assert.match(text, /did not end within 5 s, although its tests had ended/);
  });

  it('keeps the failures of a file that is killed later', async () => {
    const { text, total } = await run({ a: FAILS + CRASHES });
    assert.equal(total, '0 passed, 2 failed');
    assert.match(text.slice(text.indexOf('=== Failures in')), /one is not two[\s\S]*was killed by SIGKILL/);
  });

  it('counts a failure where there is no file', async () => {
    const { code, total } = await run({});
    assert.deepEqual([code, total], [1, '0 passed, 1 failed']);
  });

  it('lets nothing run beside a file that says so, and one process run files that share it', async () => {
    const writesTimes = (name: string, marker: string) => `${marker}
import { appendFileSync } from 'node:fs';
const log = (what) => appendFileSync(${JSON.stringify(temp('log'))}, what + ' ' + process.pid + '\\n');
it('lasts', async () => { log('${name} begins'); await new Promise((done) => setTimeout(done, 300)); log('${name} ends'); });
`;
    const { total } = await run({
      a: writesTimes('alone', '// Runs alone: it measures'),
      b: writesTimes('one', '// Shares a process: pair'),
      c: writesTimes('other', ''),
      d: writesTimes('two', '// Shares a process: pair'),
    });
    assert.equal(total, '4 passed, 0 failed');
    const { stdout } = await runCommand('cat', [temp('log')]);
    const entries = stdout.toString().trimEnd().split('\n');
    assert.deepEqual(
      entries.slice(-2).map((entry) => entry.replace(/ \d+$/, '')),
      ['alone begins', 'alone ends'],
    );
    const pidOf = (what: string) =>
      entries
        .find((entry) => entry.startsWith(what))
        ?.split(' ')
        .at(-1);
    assert.equal(pidOf('one'), pidOf('two'));
    assert.equal(new Set(['alone', 'one', 'other'].map(pidOf)).size, 3);
  });
});

describe('make test', () => {
  for (const [args, places] of [
    [[], ''],
    [['ONLY=test/unit/common'], ' test/unit/common'],
  ] as const)
    it(`starts the runner${places === '' ? ' with all tests' : ' beneath one directory'}`, async () => {
      // A make that runs the tests passes its own arguments on in the environment.
      const make = ['-u', 'MAKEFLAGS', '-u', 'MAKELEVEL', '-u', 'MAKEOVERRIDES', '-u', 'ONLY', 'make'];
      const { stdout } = await runCommand('env', [...make, '--dry-run', '--no-print-directory', 'test', ...args], { cwd: ROOT });
      assert.equal(stdout.toString().trimEnd().split('\n').at(-1)?.trimEnd(), `node test/tools/run-tests.ts${places}`);
    });
});
