/** The workflows of .github: each rule is broken once, in a copy, and the check must see it. */

import assert from 'node:assert/strict';
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { checkWorkflows, WORKFLOWS } from '../tools/check-workflows.ts';
import { brokenRules, WORKFLOW_RULES, type Workflow } from '../tools/workflow-rules.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

function textOf(name: string): string {
  return readFileSync(path.join(ROOT, WORKFLOWS, name), 'utf8');
}

/** In check.yml: the text to replace, and the text that breaks the rule. */
const VIOLATIONS: Record<string, readonly [kept: string | RegExp, broken: string]> = {
  'action-pinned': [/@[0-9a-f]{40} # v7\.0\.1/, '@v7'],
  'no-permissions-by-default': ['permissions: {}', 'permissions: { contents: write }'],
  'permissions-per-job': ['    permissions:\n      contents: read\n', ''],
  'time-limit': ['    timeout-minutes: 20\n', ''],
  concurrency: [/concurrency:\n.*\n.*\n/, ''],
  'make-only': ['run: make check', 'run: npm ci && make check'],
  'no-credentials-left': ['persist-credentials: false', 'persist-credentials: true'],
};

describe('the workflows', () => {
  it('keep every rule', () => {
    assert.deepEqual(checkWorkflows(ROOT), []);
  });

  it('have a planted violation for each rule', () => {
    assert.deepEqual(Object.keys(VIOLATIONS).sort(), WORKFLOW_RULES.map(({ name }) => name).sort());
  });

  for (const [rule, [kept, broken]] of Object.entries(VIOLATIONS))
    it(`are refused when ${rule} is broken`, () => {
      const text = textOf('check.yml');
      const changed = text.replace(kept, broken);
      assert.notEqual(changed, text, 'the violation is planted');
      const rules = brokenRules('check.yml', parse(changed) as Workflow, changed).map((violation) => violation.rule);
      assert.deepEqual(rules, [rule]);
    });

  it('pin one action to one commit in all files', () => {
    const pins = new Map<string, Set<string>>();
    for (const name of readdirSync(path.join(ROOT, WORKFLOWS)))
      for (const [, action = '', pin = ''] of textOf(name).matchAll(/uses: (\S+)@(.*)/g))
        pins.set(action, (pins.get(action) ?? new Set()).add(pin));
    assert.ok(pins.size > 5, `${pins.size} actions`);
    for (const [action, commits] of pins) assert.equal(commits.size, 1, `${action}: ${[...commits]}`);
  });

  it('call targets that the Makefile has', () => {
    const makefile = readFileSync(path.join(ROOT, 'Makefile'), 'utf8');
    for (const name of readdirSync(path.join(ROOT, WORKFLOWS)))
      for (const [, target] of textOf(name).matchAll(/run: make ([a-z-]+)/g))
        assert.match(makefile, new RegExp(`^${target}:`, 'm'), target);
  });

  it('test every folder that has tests', () => {
    const { jobs } = parse(textOf('test.yml')) as { jobs: { test: { strategy: { matrix: { part: string[] } } } } };
    const folders = globSync('test/*/**/*.test.ts', { cwd: ROOT }).map((file) => file.split(path.sep)[1]);
    assert.deepEqual(jobs.test.strategy.matrix.part, [...new Set(folders)].sort());
    assert.deepEqual(globSync('test/*.test.ts', { cwd: ROOT }), []);
  });
});

describe('the community files', () => {
  it('name teams only as owners', () => {
    const owners = readFileSync(path.join(ROOT, '.github', 'CODEOWNERS'), 'utf8').match(/(?<=\s)\S*@\S+/g) ?? [];
    assert.ok(owners.length > 0);
    for (const owner of owners) assert.match(owner, /^@[\w-]+\/[\w-]+$/);
  });

  it('own paths that exist', () => {
    const lines = readFileSync(path.join(ROOT, '.github', 'CODEOWNERS'), 'utf8').split('\n');
    for (const line of lines.filter((each) => each.startsWith('/')))
      assert.ok(existsSync(path.join(ROOT, line.split(' ')[0] as string)), line);
  });

  it('ask for what a report needs', () => {
    for (const name of ['fault.yml', 'wish.yml']) {
      const form = parse(readFileSync(path.join(ROOT, '.github', 'ISSUE_TEMPLATE', name), 'utf8')) as {
        name: string;
        description: string;
        body: { type: string; id?: string; attributes: object }[];
      };
      assert.ok(form.name && form.description && form.body.length > 1, name);
      const ids = form.body.flatMap(({ id }) => id ?? []);
      assert.equal(new Set(ids).size, ids.length, name);
    }
  });
});
