/** What it means that a disk, or what it lies on, cannot be opened. */

import { DiskliftError, errnoOf } from '../common/errors.ts';

export function openError(name: string, error: unknown): DiskliftError {
  const errno = errnoOf(error);
  if (errno === 'ENOENT' || errno === 'ENOTDIR') return new DiskliftError('SourceNotFound', `${name}: not found`, error);
  if (errno === 'EACCES' || errno === 'EPERM')
    return new DiskliftError('SourcePermissionDenied', `${name}: permission denied; read permission is needed`, error);
  return new DiskliftError('SourceReadError', `${name}: cannot open: ${errno ?? String(error)}`, error);
}
