/** The error of a block status that a server owes. */

import { DiskliftError } from '../../common/errors.ts';
import { reasonOf } from '../read-exactly.ts';

/** An error while the server was asked which parts of the disk from `offset` on hold data. No byte of the disk was read. */
export function blockStatusError(name: string, offset: number, cause: unknown): DiskliftError {
  const message = `${name}: cannot learn from the server which parts are zeros (block status) at offset ${offset}: ${reasonOf(cause)}`;
  return new DiskliftError('SourceReadError', message, cause);
}
