/** What it means that a disk, or the volume it lies on, cannot be opened. */

import { DiskliftError, errnoOf } from '../common/errors.ts';

export interface OpenErrorWords {
  /** Of what is not there. */
  missing?: string;
  /** What may be the matter where permission is denied. */
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
