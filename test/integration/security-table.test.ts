import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

const ROOT = path.join(import.meta.dirname, '..', '..');

describe('SECURITY.md', () => {
  it('names a test that is there for each attempt, or says that it does not hold', () => {
    const lines = readFileSync(path.join(ROOT, 'SECURITY.md'), 'utf8').split('\n');
    const rows = lines.filter((line) => line.startsWith('| ')).slice(2);
    assert.ok(rows.length > 20, `${rows.length} rows`);
    for (const row of rows) {
      const tests = row.match(/test\/[\w/-]+/g) ?? [];
      assert.ok(tests.length > 0 || row.includes('**does not hold**'), row);
      for (const each of tests) assert.ok(existsSync(path.join(ROOT, `${each}.test.ts`)), each);
    }
  });
});
