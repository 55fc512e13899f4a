import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { readManifests } from '../helpers/chart.ts';
import type { Manifest } from '../helpers/helm-pods.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

/** The rows of a section's only table, without its head. */
function rowsOf(heading: string): string[] {
  const sections = readFileSync(path.join(ROOT, 'SECURITY.md'), 'utf8').split(/^## /m);
  const section = sections.find((each) => each.startsWith(`${heading}\n`)) ?? assert.fail(heading);
  return section
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(2);
}

describe('SECURITY.md', () => {
  it('names an existing test for each attempt, or says that it does not hold', () => {
    const rows = rowsOf('What a tenant can try');
    assert.ok(rows.length > 20, `${rows.length} rows`);
    for (const row of rows) {
      const tests = row.match(/test\/[\w/-]+/g) ?? [];
      assert.ok(tests.length > 0 || row.includes('**does not hold**'), row);
      for (const each of tests) assert.ok(existsSync(path.join(ROOT, `${each}.test.ts`)), each);
    }
  });

  it('lists each right of the Role and its consequences, and no other', () => {
    type Role = Manifest & { rules: { resources: string[]; verbs: string[] }[] };
    const [role] = readManifests('rbac.yaml').filter(({ kind }) => kind === 'Role') as Role[];
    const rights = role?.rules.flatMap(({ resources, verbs }) => resources.flatMap((each) => verbs.map((verb) => `${each} ${verb}`)));
    const listed = rowsOf('Rights of the Role').map((row) => {
      const [, resource = '', verb = '', opens = ''] = row.split('|').map((cell) => cell.trim());
      assert.notEqual(opens, '', row);
      return `${resource} ${verb.replaceAll('`', '')}`;
    });
    assert.deepEqual(listed.sort(), rights?.sort());
  });

  it('lists each right of the controller and its consequences, and no other', () => {
    type Role = Manifest & { rules: { resources: string[]; verbs: string[] }[] };
    const isOfController = ({ kind, metadata }: Manifest) => /Role$/.test(kind) && metadata.name !== 'disklift-worker';
    const roles = readManifests('controller/rbac.yaml').filter(isOfController) as Role[];
    assert.equal(roles.length, 2);
    const rights = roles.flatMap(({ rules }) =>
      rules.flatMap(({ resources, verbs }) => resources.flatMap((each) => verbs.map((verb) => `${each} ${verb}`))),
    );
    const listed = rowsOf('Rights of the controller').flatMap((row) => {
      const [, resource = '', verbs = '', opens = ''] = row.split('|').map((cell) => cell.trim());
      assert.notEqual(opens, '', row);
      return verbs
        .replaceAll('`', '')
        .split(', ')
        .map((verb) => `${resource} ${verb}`);
    });
    assert.deepEqual(listed.sort(), rights.sort());
  });
});
