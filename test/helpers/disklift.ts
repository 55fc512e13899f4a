/** The program under test, run as a user runs it from a checkout. */

import path from 'node:path';
import { type CommandOptions, type CommandResult, runCommand } from './run-command.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const BIN = path.join(ROOT, 'src', 'bin.ts');
const WITHOUT_KOFFI = path.join(ROOT, 'test', 'fixtures', 'without-koffi.cjs');

export interface DiskliftOptions extends CommandOptions {
  /** Runs as if koffi were not installed. */
  withoutKoffi?: boolean;
}

function nodeArgs(args: readonly string[], withoutKoffi = false): string[] {
  return [...(withoutKoffi ? ['--require', WITHOUT_KOFFI] : []), BIN, ...args];
}

export function disklift(args: readonly string[], { withoutKoffi, ...options }: DiskliftOptions = {}): Promise<CommandResult> {
  return runCommand(process.execPath, nodeArgs(args, withoutKoffi), options);
}

/** The same as text for a shell. */
export function diskliftLine(args: readonly string[], { withoutKoffi }: { withoutKoffi?: boolean } = {}): string {
  return [process.execPath, ...nodeArgs(args, withoutKoffi)].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
}
