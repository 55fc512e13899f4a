/** Finds the prose of a file: comments, names of tests, and the text of Markdown pages. */

import ts from 'typescript';

export interface Prose {
  kind: 'comment' | 'test-name' | 'page';
  /** Starts at 1. */
  line: number;
  /** Without the marks of comments; line breaks are kept. */
  text: string;
}

/** Comments of the TypeScript source and the names of its tests. */
export function proseOfTypeScript(tree: ts.SourceFile): Prose[] {
  return [...commentsOf(tree), ...testNamesOf(tree)].sort((a, b) => a.line - b.line);
}

function lineOf(tree: ts.SourceFile, position: number): number {
  return tree.getLineAndCharacterOfPosition(position).line + 1;
}

function commentsOf(tree: ts.SourceFile): Prose[] {
  const { text } = tree;
  const ranges = new Map<number, ts.CommentRange>();
  const visit = (node: ts.Node): void => {
    for (const range of ts.getLeadingCommentRanges(text, node.getFullStart()) ?? []) ranges.set(range.pos, range);
    for (const range of ts.getTrailingCommentRanges(text, node.getEnd()) ?? []) ranges.set(range.pos, range);
    for (const child of node.getChildren(tree)) visit(child);
  };
  visit(tree);
  const blocks = [...ranges.values()].sort((a, b) => a.pos - b.pos);
  return joinedLines(tree, blocks).filter(({ text }) => !/^biome-ignore|^@ts-|^c8 /.test(text));
}

/** Line comments that follow one another are one text. */
function joinedLines(tree: ts.SourceFile, ranges: readonly ts.CommentRange[]): Prose[] {
  const found: (Prose & { lastLine?: number })[] = [];
  for (const range of ranges) {
    const raw = tree.text.slice(range.pos, range.end);
    const line = lineOf(tree, range.pos);
    const before = found.at(-1);
    const isOwnLine = /(^|\n)[ \t]*$/.test(tree.text.slice(0, range.pos));
    if (range.kind === ts.SyntaxKind.SingleLineCommentTrivia) {
      const text = raw.replace(/^\/\/+ ?/, '');
      if (isOwnLine && before?.lastLine === line - 1) {
        before.text += `\n${text}`;
        before.lastLine = line;
      } else found.push({ kind: 'comment', line, text, ...(isOwnLine && { lastLine: line }) });
    } else
      found.push({
        kind: 'comment',
        line,
        text: raw
          .slice(2, -2)
          .replace(/^\*/, '')
          .replace(/\n\s*\* ?/g, '\n')
          .trim(),
      });
  }
  return found.map(({ kind, line, text }) => ({ kind, line, text }));
}

const TEST_FUNCTIONS = new Set(['it', 'describe', 'specify', 'context']);

function testNamesOf(tree: ts.SourceFile): Prose[] {
  const found: Prose[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && ts.isIdentifier(node.expression) && TEST_FUNCTIONS.has(node.expression.text)) {
      const [name] = node.arguments;
      if (name && ts.isStringLiteralLike(name)) found.push({ kind: 'test-name', line: lineOf(tree, name.getStart(tree)), text: name.text });
    }
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return found;
}

/** Comments of a file whose comments begin with `#`: YAML, shell, Makefile, Dockerfile. */
export function proseOfHashComments(text: string): Prose[] {
  const found: Prose[] = [];
  let last = Number.NaN;
  for (const [index, line] of text.split('\n').entries()) {
    const comment = /^\s*#+ ?(?!!)(.*)$/.exec(line)?.[1];
    if (comment === undefined) continue;
    const before = found.at(-1);
    if (before && last === index - 1) before.text += `\n${comment}`;
    else found.push({ kind: 'comment', line: index + 1, text: comment });
    last = index;
  }
  return found;
}

/** The paragraphs and list items of a Markdown page, without code blocks, tables, headings and links' addresses. */
export function proseOfMarkdown(text: string): Prose[] {
  const found: Prose[] = [];
  let isCode = false;
  let isOpen = false;
  for (const [index, line] of text.split('\n').entries()) {
    if (/^\s*(```|~~~)/.test(line)) isCode = !isCode;
    const words = line.replace(/\]\([^)]*\)/g, ']').replace(/<!--.*?-->/g, '');
    if (isCode || /^\s*(```|~~~|\||#|<|$)/.test(words)) {
      isOpen = false;
      continue;
    }
    const item = /^\s*([-*]|\d+\.) (.*)$/.exec(words);
    const before = found.at(-1);
    if (isOpen && before && item === null) before.text += `\n${words.trim()}`;
    else found.push({ kind: 'page', line: index + 1, text: item?.[2] ?? words.trim() });
    isOpen = true;
  }
  return found;
}
