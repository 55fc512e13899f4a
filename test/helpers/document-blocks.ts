/** The fenced blocks of the project's Markdown, so that tests can run the commands in it. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';

const ROOT = path.join(import.meta.dirname, '..', '..');

/** Pages with commands. Tests follow each page on a node in the state that `make cluster` leaves. */
export const PAGES = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'docs/operations.md',
  'docs/requests.md',
  'docs/destinations.md',
  'docs/kubernetes.md',
  'docs/virtual-machines.md',
  'docs/verify.md',
  'docs/incremental.md',
];

/**
 * `sh`: commands that run unchanged on `make cluster`. `console`: commands that need something else. `js`: a program,
 * which the release check runs from the installed package.
 */
const LANGUAGES = ['sh', 'console', 'yaml', 'text', 'js'] as const;

export interface Block {
  language: (typeof LANGUAGES)[number];
  /** Number of its first line, from 1. */
  line: number;
  text: string;
}

const FENCE = /^( *)```(\S*)\n(.*?)^\1```$/gms;

export function blocksOf(page: string): Block[] {
  const markdown = readFileSync(path.join(ROOT, page), 'utf8');
  return [...markdown.matchAll(FENCE)].map(({ index, 1: indent = '', 2: language = '', 3: body = '' }) => {
    const line = markdown.slice(0, index).split('\n').length + 1;
    assert.ok(isLanguage(language), `${page}:${line}: a block is one of ${LANGUAGES.join(', ')}`);
    return { language, line, text: body.replaceAll(new RegExp(`^${indent}`, 'gm'), '') };
  });
}

function isLanguage(language: string): language is Block['language'] {
  return (LANGUAGES as readonly string[]).includes(language);
}

/** Commands with their continuations and here-documents, without trailing comments. */
export function commandsOf(text: string): string[] {
  const commands: string[] = [];
  const lines = text.split('\n').map((line) => line.replace(/(^| +)# .*$/, ''));
  while (lines.length > 0) {
    const taken = [lines.shift() as string];
    while (taken.at(-1)?.endsWith('\\')) taken.push(lines.shift() ?? '');
    const [, end] = /<<'?(\w+)'?/.exec(taken.join('\n')) ?? [];
    if (end !== undefined) taken.push(...lines.splice(0, lines.indexOf(end) + 1));
    if (taken.join('') !== '') commands.push(taken.join('\n'));
  }
  return commands;
}

/** The first line of its first command. */
export function nameOf(block: Block): string {
  const [command] = commandsOf(block.text);
  return command?.split(/ ?\\?\n/)[0] ?? assert.fail(`line ${block.line}: a block has a command`);
}
