/** The log: one line of JSON an event, on standard error. Standard output is for images and for what was asked for. */

import pino from 'pino';

export type Logger = pino.Logger;

const STDERR_FD = 2;

/** Written at once: a process that is killed has said what it knew. */
export function createLogger(level: string): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination({ fd: STDERR_FD, sync: true }),
  );
}
