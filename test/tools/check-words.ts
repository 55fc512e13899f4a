/** Checks prose and names by the rules of word-rules.ts: check-words.ts [PATH...], by default the whole checkout. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { type Prose, proseOfHashComments, proseOfMarkdown, proseOfTypeScript } from './prose.ts';
import { reportViolations, type Violation } from './violation.ts';
import { MAX_COMMENT_COLUMNS, NAME_WORDS, wordProblems } from './word-rules.ts';

export const WORD_RULES = ['comment-width', 'plain-words', 'one-word', 'contract-docs'] as const;

const HASH_COMMENTS = /(?:\.(?:ya?ml|sh)|Makefile|Dockerfile)$/;
/** Texts of other authors, and files that break the rules on purpose. */
const EXEMPT = /^(?:LICENSE|CODE_OF_CONDUCT\.md|node_modules\/|charts\/[^/]+\/templates\/|test\/fixtures\/planted)/;

export function checkWords(root: string, files: readonly string[]): Violation[] {
  return files.filter((file) => !EXEMPT.test(file)).flatMap((file) => violationsOf(file, readFileSync(path.join(root, file), 'utf8')));
}

function violationsOf(file: string, text: string): Violation[] {
  if (file.endsWith('.md')) return proseViolations(file, proseOfMarkdown(text));
  if (HASH_COMMENTS.test(file)) return proseViolations(file, proseOfHashComments(text));
  if (!file.endsWith('.ts')) return [];
  const tree = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const contract = /(^|\/)contract\.ts$/.test(file) ? contractViolations(file, tree) : [];
  return [...proseViolations(file, proseOfTypeScript(tree)), ...widthViolations(file, text), ...nameViolations(file, tree), ...contract];
}

function proseViolations(file: string, prose: readonly Prose[]): Violation[] {
  return prose.flatMap((piece) => [...wordProblems(piece)].map((what) => ({ rule: 'plain-words', where: `${file}:${piece.line}`, what })));
}

function widthViolations(file: string, text: string): Violation[] {
  if (text.slice(0, 200).includes('Generated from ')) return [];
  const what = `a comment wider than ${MAX_COMMENT_COLUMNS} columns`;
  return text.split('\n').flatMap((line, index) => {
    const isWide = line.length > MAX_COMMENT_COLUMNS && /^\s*(?:\/\*\*|\*|\/\/)/.test(line) && !/https?:\/\/\S{60}/.test(line);
    return isWide ? [{ rule: 'comment-width', where: `${file}:${index + 1}`, what }] : [];
  });
}

const DECLARATIONS: readonly ((node: ts.Node) => boolean)[] = [
  ...[ts.isVariableDeclaration, ts.isParameter, ts.isBindingElement, ts.isClassElement, ts.isTypeElement],
  ...[ts.isFunctionDeclaration, ts.isClassDeclaration, ts.isInterfaceDeclaration, ts.isTypeAliasDeclaration],
];

/** Names that the file declares; names of others, such as members of an SDK, are free. */
function nameViolations(file: string, tree: ts.SourceFile): Violation[] {
  const found: Violation[] = [];
  const judge = (name: string, position: number) => {
    for (const [pattern, instead] of NAME_WORDS)
      if (pattern.test(name)) {
        const { line } = tree.getLineAndCharacterOfPosition(position);
        found.push({ rule: 'one-word', where: `${file}:${line + 1}`, what: `"${name}": the word is ${instead}` });
      }
  };
  judge(
    path.basename(file, '.ts').replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase()),
    0,
  );
  const visit = (node: ts.Node): void => {
    if (DECLARATIONS.some((isDeclaration) => isDeclaration(node))) judgeName(node);
    ts.forEachChild(node, visit);
  };
  const judgeName = (node: ts.Node) => {
    const { name } = node as { name?: ts.Node };
    if (name && ts.isIdentifier(name)) judge(name.text, name.getStart(tree));
  };
  visit(tree);
  return found;
}

/** Every function of a contract has a docstring; one that may fail says with which errors, or that it never fails. */
function contractViolations(file: string, tree: ts.SourceFile): Violation[] {
  const found: Violation[] = [];
  const report = (node: ts.Node, name: string, what: string) => {
    const { line } = tree.getLineAndCharacterOfPosition(node.getStart(tree));
    found.push({ rule: 'contract-docs', where: `${file}:${line + 1}`, what: `${name} ${what}` });
  };
  for (const statement of tree.statements) {
    if (!ts.isInterfaceDeclaration(statement)) continue;
    for (const member of statement.members) {
      const isFunction =
        ts.isMethodSignature(member) || (ts.isPropertySignature(member) && member.type && ts.isFunctionTypeNode(member.type));
      if (!isFunction) continue;
      const name = `${statement.name.text}.${member.name.getText(tree)}`;
      const docs = ts
        .getJSDocCommentsAndTags(member)
        .map((doc) => doc.getText(tree))
        .join('\n');
      if (docs === '') report(member, name, 'has no docstring');
      else if (
        /Promise<|Async(?:Iterable|Generator)</.test(member.getText(tree)) &&
        !/@throws|\bnever (?:fails|rejects|throws)\b/i.test(docs)
      )
        report(member, name, 'does not say with which errors it fails (@throws, or "Never fails")');
    }
  }
  return found;
}

/** The files of the checkout under `paths` that the rules judge. */
export function judgedFiles(root: string, paths: readonly string[]): string[] {
  const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '--', ...paths], { cwd: root });
  return listed
    .toString()
    .split('\n')
    .filter((file) => file !== '');
}

if (import.meta.main) {
  const root = process.cwd();
  const files = judgedFiles(root, process.argv.slice(2)).filter((file) => ts.sys.fileExists(path.join(root, file)));
  reportViolations(`words: ${files.length} files, all in plain words`, checkWords(root, files));
}
