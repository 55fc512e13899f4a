/** Errors of opening a disk or its volume. */

import type { BigIntStats, Stats } from 'node:fs';
import { DiskliftError, errnoOf } from '../common/errors.ts';

export interface OpenErrorWords {
  /** The reason where nothing has the name. */
  missing?: string;
  /** The likely cause where permission is denied. */
  denied?: string;
}

const WORDS: Required<OpenErrorWords> = { missing: 'no such disk image', denied: 'read permission is needed' };

export function openError(name: string, error: unknown, words: OpenErrorWords = {}): DiskliftError {
  const { missing, denied } = { ...WORDS, ...words };
  const errno = errnoOf(error);
  if (errno === 'ENOENT' || errno === 'ENOTDIR') return new DiskliftError('SourceNotFound', `${name}: ${missing}`, error);
  if (errno === 'EACCES' || errno === 'EPERM')
    return new DiskliftError('SourcePermissionDenied', `${name}: permission denied; ${denied}`, error);
  return new DiskliftError('SourceReadError', `${name}: cannot open: ${errno ?? String(error)}`, error);
}

/** The kind of a file that is not a regular file, for messages. */
export function kindOf(stat: Stats | BigIntStats): string {
  if (stat.isDirectory()) return 'a directory';
  if (stat.isFIFO()) return 'a FIFO';
  if (stat.isSocket()) return 'a socket';
  if (stat.isBlockDevice()) return 'a block device';
  return 'a character device';
}
