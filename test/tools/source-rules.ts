/** Rules about files of src that imports alone cannot show. They examine syntax trees, so comments are free. */

import ts from 'typescript';
import type { SourceFile } from './source-tree.ts';

export interface SourceRule {
  name: string;
  reason: string;
  /** Whether `node` breaks the rule in the file at `sourcePath`. */
  isBrokenBy(node: ts.Node, sourcePath: string): boolean;
}

/** Whether `node` is `object.name`, `object['name']`, or the same behind `globalThis.`. */
function isMember(node: ts.Node, object: string, name: string): boolean {
  if (!ts.isPropertyAccessExpression(node) && !ts.isElementAccessExpression(node)) return false;
  return memberName(node) === name && isNamed(node.expression, object);
}

function memberName(node: ts.PropertyAccessExpression | ts.ElementAccessExpression): string | undefined {
  if (ts.isPropertyAccessExpression(node)) return node.name.text;
  return ts.isStringLiteralLike(node.argumentExpression) ? node.argumentExpression.text : undefined;
}

function isNamed(node: ts.Node, name: string): boolean {
  if (ts.isIdentifier(node)) return node.text === name;
  return ts.isPropertyAccessExpression(node) && node.name.text === name && isNamed(node.expression, 'globalThis');
}

/** A name that is used as a value, and not the name of a member, a property or an import. */
function isFreeName(node: ts.Node, names: readonly string[]): node is ts.Identifier {
  if (!ts.isIdentifier(node) || !names.includes(node.text)) return false;
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  return !ts.isPropertyAssignment(parent) && !ts.isImportSpecifier(parent) && !ts.isTypeNode(parent);
}

function memberOnlyIn(name: string, homes: RegExp): SourceRule['isBrokenBy'] {
  return (node, sourcePath) => isMember(node, 'process', name) && !homes.test(sourcePath);
}

/** `process` in any form other than `process.member`: the rules cannot see members behind another name. */
function hidesProcess(node: ts.Node): boolean {
  if (!isFreeName(node, ['process'])) return false;
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return false;
  return !ts.isElementAccessExpression(parent) || memberName(parent) === undefined;
}

/** Loading a module in a way that no tool that reads imports can follow. */
function isHiddenImport(node: ts.Node): boolean {
  if (ts.isIdentifier(node) && node.text === 'createRequire') return true;
  if (isFreeName(node, ['require', 'eval']) || isMember(node, 'process', 'dlopen')) return true;
  if (!ts.isCallExpression(node)) return false;
  const isImport = node.expression.kind === ts.SyntaxKind.ImportKeyword || isMember(node.expression, 'process', 'getBuiltinModule');
  const [specifier] = node.arguments;
  return isImport && (specifier === undefined || !ts.isStringLiteralLike(specifier));
}

function isReExport(node: ts.Node): boolean {
  return ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined;
}

/** `Promise.race(...)` with a loop around it in the same file. */
function isRaceInLoop(node: ts.Node): boolean {
  if (!isMember(node, 'Promise', 'race')) return false;
  for (let { parent } = node; parent !== undefined; { parent } = parent) if (ts.isIterationStatement(parent, false)) return true;
  return false;
}

const IMPURE_GLOBALS = [
  ...['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask', 'performance', 'Date'],
  ...['process', 'console', 'fetch', 'crypto', 'Worker'],
];

// The path is not a literal, because the rules file is JavaScript without types.
const LAYERS_FILE: string = '../../.dependency-cruiser.mjs';
const { LAYERS } = (await import(LAYERS_FILE)) as { LAYERS: Record<string, unknown> };
const KNOWN_PLACE = new RegExp(`^src/((bin|index)\\.ts|(${Object.keys(LAYERS).join('|')})/.+)$`);

const INDEX = 'src/index.ts';

export const SOURCE_RULES: readonly SourceRule[] = [
  {
    name: 'argv-home',
    reason: 'process.argv is read in src/bin.ts and src/cli/; everything else is handed what it needs',
    isBrokenBy: memberOnlyIn('argv', /^src\/(bin\.ts$|cli\/)/),
  },
  {
    name: 'env-home',
    reason: 'process.env is read in src/bin.ts and src/config/; everything else is handed what it needs',
    isBrokenBy: memberOnlyIn('env', /^src\/(bin\.ts$|config\/)/),
  },
  {
    name: 'stdout-home',
    reason:
      'what process.stdout cannot write ends the process as an uncaught error; printOutput of src/cli/standard-output.ts fails as other calls do',
    isBrokenBy: memberOnlyIn('stdout', /^$/),
  },
  {
    name: 'no-process-exit',
    reason: 'process.exit ends writes and clean-up half way; throw, and let src/bin.ts set process.exitCode',
    isBrokenBy: (node) => isMember(node, 'process', 'exit') || isMember(node, 'process', 'reallyExit'),
  },
  {
    name: 'process-by-name',
    reason: 'write process.member in full, so that the rules about argv, env, stdout and exit can see it',
    isBrokenBy: hidesProcess,
  },
  {
    name: 'no-hidden-imports',
    reason: 'only src/native/library.ts may load a module in a way that the rules about imports cannot see',
    isBrokenBy: (node, sourcePath) => isHiddenImport(node) && sourcePath !== 'src/native/library.ts',
  },
  {
    name: 'koffi-home',
    reason: 'koffi is loaded in src/native/ only, which has a portable way where it is not installed',
    isBrokenBy: (node, sourcePath) =>
      ts.isStringLiteralLike(node) && /^(koffi|@koromix)(\/|$)/.test(node.text) && !sourcePath.startsWith('src/native/'),
  },
  {
    name: 'pure-qcow2-globals',
    reason: 'the format is pure: no clock, no timer, no process, no network',
    isBrokenBy: (node, sourcePath) => sourcePath.startsWith('src/qcow2/') && isFreeName(node, IMPURE_GLOBALS),
  },
  {
    name: 'no-barrels',
    reason: 'import a thing from the file that has it; only src/index.ts re-exports',
    isBrokenBy: (node, sourcePath) => sourcePath !== INDEX && (ts.isSourceFile(node) ? sourcePath.endsWith('/index.ts') : isReExport(node)),
  },
  {
    name: 'index-re-exports-only',
    reason: 'src/index.ts is the list of what is public and has no code of its own',
    isBrokenBy: (node, sourcePath) => sourcePath === INDEX && ts.isSourceFile(node) && !node.statements.every(isReExport),
  },
  {
    name: 'no-race-in-loop',
    reason:
      'each race leaves a reaction behind at a promise that stays pending, so memory grows; wait on one deferred that all causes resolve',
    isBrokenBy: isRaceInLoop,
  },
  {
    name: 'known-layer',
    reason: 'a new layer needs a row in LAYERS of .dependency-cruiser.mjs, or no rule would check it',
    isBrokenBy: (node, sourcePath) => ts.isSourceFile(node) && !KNOWN_PLACE.test(sourcePath),
  },
];

/** Every node of the file that breaks `rule`. */
export function* violatingNodes(rule: SourceRule, { tree, path }: SourceFile): Generator<ts.Node> {
  const nodes: ts.Node[] = [tree];
  for (let node = nodes.pop(); node !== undefined; node = nodes.pop()) {
    if (rule.isBrokenBy(node, path)) yield node;
    ts.forEachChild(node, (child) => void nodes.push(child));
  }
}
