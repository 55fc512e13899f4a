/** The error of a block status query without a valid answer. */

import { DiskliftError } from '../../common/errors.ts';
import { reasonOf } from '../read-exactly.ts';

/** An error of the query for the data extents from `offset` on. The error concerns no byte of the disk. */
export function blockStatusError(name: string, offset: number, cause: unknown): DiskliftError {
  const message = `${name}: cannot learn from the server which parts are zeros (block status) at offset ${offset}: ${reasonOf(cause)}`;
  return new DiskliftError('SourceReadError', message, cause);
}
