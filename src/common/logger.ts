/** The log: one line an event, on standard error. Standard output is for images and for what was asked for. */

import pino from 'pino';
import { type LogFields, logLineForPeople } from './log-line.ts';
import { printable } from './printable.ts';
import { redactValue } from './redact.ts';

export type Logger = pino.Logger;

export interface LoggerOptions {
  level: string;
  /** 'text' is for people. */
  format: 'json' | 'text';
  /** Takes whole lines; standard error when left out. */
  write?: (line: string) => void;
}

const STDERR_FD = 2;

/** Written at once: a process that is killed has said what it knew. */
export function createLogger({ level, format, write }: LoggerOptions): Logger {
  const stderr = pino.destination({ fd: STDERR_FD, sync: true });
  // A log that cannot be written (full disk, pipe without a reader) must not end the process and all its exports.
  stderr.on('error', () => {});
  const writeLine = write ?? ((line: string) => void stderr.write(line));
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    {
      // Here everything has come together, from whatever logger it came.
      write(line: string) {
        const fields = redactValue(JSON.parse(line)) as LogFields;
        // In JSON the same escapes are the characters themselves to a program.
        writeLine(format === 'json' ? `${printable(JSON.stringify(fields))}\n` : logLineForPeople(fields));
      },
    },
  );
}
