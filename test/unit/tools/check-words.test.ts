/** Each rule about words is broken once, and the check reports it at its line; plain text passes. */

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { checkWords, WORD_RULES } from '../../tools/check-words.ts';

describe('check-words', () => {
  const temp = useTempDir();

  function check(file: string, text: string): string[] {
    mkdirSync(path.dirname(temp(file)), { recursive: true });
    writeFileSync(temp(file), text);
    return checkWords(temp('.'), [file]).map(({ rule, where }) => `${where.slice(file.length + 1)} ${rule}`);
  }

  const long = Array.from({ length: 26 }, () => 'a').join(' ');
  const BROKEN: readonly (readonly [problem: string, file: string, text: string, found: string])[] = [
    ['a comment that begins with a word that hides the subject', 'src/a.ts', 'const a = 1;\n// Who uses it waits.\n', '2 plain-words'],
    ['a later sentence that does', 'src/a.ts', '/** The sidecar waits. So the export does. */\n', '1 plain-words'],
    ['a test name that does', 'test/a.test.ts', "\nit('what is there is kept', () => {});\n", '2 plain-words'],
    ['private English', 'src/a.ts', '/** The claim is told about it. */\n', '1 plain-words'],
    ['a sentence of more than 25 words', 'src/a.ts', `/** ${long}. */\n`, '1 plain-words'],
    ['private English in YAML', 'charts/a.yaml', 'a: 1\n# Of these the first is taken.\n', '2 plain-words'],
    ['private English in a page', 'docs/a.md', '# Title\n\nNor does it wait.\n', '3 plain-words'],
    ['a wide comment', 'src/a.ts', `// ${'a wide comment. '.repeat(9)}\n`, '1 comment-width'],
    ['a synonym in a constant', 'src/a.ts', 'const LONGEST_WAIT_MS = 1;\n', '1 one-word'],
    ['a synonym in a member', 'src/a.ts', 'interface A {\n  isGoing: boolean;\n}\n', '2 one-word'],
    ['a synonym in a file name', 'src/end-check.ts', 'export {};\n', '1 one-word'],
    ['a contract without a docstring', 'src/x/contract.ts', 'export interface A {\n  b(): void;\n}\n', '2 contract-docs'],
    [
      'a contract that is silent about errors',
      'src/x/contract.ts',
      '\ninterface A {\n  /** B. */\n  b(): Promise<void>;\n}\n',
      '4 contract-docs',
    ],
  ];
  for (const [problem, file, text, found] of BROKEN) it(`reports ${problem}`, () => assert.deepEqual(check(file, text), [found]));

  it('has a broken example of every rule', () => {
    const rules = new Set(BROKEN.map(([, , , found]) => found.replace(/^\d+ /, '')));
    assert.deepEqual([...rules].sort(), [...WORD_RULES].sort());
  });

  it('accepts plain text, code in comments, and names of others', () => {
    const text = [
      '/** The export keeps `LONGEST_WAIT_MS` of others. @throws DiskliftError `ExecutorLost` */',
      'other.isGoing = spans(board);',
      "it('keeps what it has', () => {});",
    ];
    assert.deepEqual(check('src/a.ts', `${text.join('\n')}\n`), []);
    assert.deepEqual(check('docs/a.md', '```\nWho knows.\n```\n| What | Of |\n| --- | --- |\n'), []);
    assert.deepEqual(check('src/x/contract.ts', 'interface A {\n  /** Never fails. */\n  b(): Promise<void>;\n}\n'), []);
  });
});
