/** A line of the log as people read it. */

import { printable } from './printable.ts';

export type LogFields = Readonly<Record<string, unknown>>;

/** Those that say what a line is about stand in front of its message; the others behind it. */
const IN_FRONT = new Set(['level', 'time', 'msg', 'namespace', 'export', 'disk', 'attempt', 'uid']);

/** @returns one line, whatever is in the fields */
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
