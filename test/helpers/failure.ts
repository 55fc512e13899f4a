/** Assertions about the code and the message of errors. */

import { DiskliftError, type ErrorCode } from '../../src/common/errors.ts';

/** For assert.rejects. */
export function failsWith(code: ErrorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => error instanceof DiskliftError && error.code === code && message.test(error.message);
}
