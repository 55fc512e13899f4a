/** The log: one line an event, on standard error. Standard output is for images and for the results of commands. */

import pino from 'pino';
import { redactValue } from './redact.ts';
import { printable } from './text.ts';

export type Logger = pino.Logger;

export interface LoggerOptions {
  level: string;
  /** 'text' is for people. */
  format: 'json' | 'text';
  /** Takes whole lines; standard error when left out. */
  write?: (line: string) => void;
}

const STDERR_FD = 2;

/** Writes each line at once, so that a killed process leaves all lines behind. */
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
      // The lines of all loggers pass here.
      write(line: string) {
        const fields = redactValue(JSON.parse(line)) as LogFields;
        // A JSON parser reads the same escapes as the characters.
        writeLine(format === 'json' ? `${printable(JSON.stringify(fields))}\n` : logLineForPeople(fields));
      },
    },
  );
}

export type LogFields = Readonly<Record<string, unknown>>;

/** The subject of a line stands in front of its message; all other fields stand behind it. */
const IN_FRONT = new Set(['level', 'time', 'msg', 'namespace', 'export', 'disk', 'attempt', 'uid']);

/** @returns one line for people; control characters in the fields are escaped */
export function logLineForPeople(fields: LogFields): string {
  const { time, level, msg, namespace, export: name, disk, attempt } = fields;
  const subject = [
    name === undefined ? '' : `${namespace === undefined ? '' : `${namespace}/`}${name}`,
    disk === undefined ? '' : String(disk),
    attempt === undefined ? '' : `#${attempt}`,
  ].filter(Boolean);
  const facts = Object.entries(fields)
    .filter(([key]) => !IN_FRONT.has(key))
    .map(([key, value]) => `${key}=${typeof value === 'string' && /^\S+$/.test(value) ? value : JSON.stringify(value)}`);
  const about = subject.length === 0 ? '' : `${subject.join(' ')}: `;
  return `${printable(`${String(time).slice(11, 19)} ${String(level).toUpperCase().padEnd(5)} ${about}${[msg, ...facts].join(' ')}`)}\n`;
}
