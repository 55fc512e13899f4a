/** Headers that a caller may have sent. */

import { nodeHttp } from '../../common/builtin.ts';
import { DiskliftError } from '../../common/errors.ts';

/** These say how the body is sent, which is not the caller's to say: two lengths are how one request becomes two. */
const RESERVED: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'expect',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** @throws DiskliftError `InvalidRequest`, which does not show a value */
export function checkHeaders(headers: Readonly<Record<string, string>>): void {
  const { validateHeaderName, validateHeaderValue } = nodeHttp();
  for (const [name, value] of Object.entries(headers)) {
    if (RESERVED.has(name.toLowerCase()))
      throw new DiskliftError('InvalidRequest', `the header ${name} belongs to the connection and cannot be set`);
    try {
      validateHeaderName(name);
      validateHeaderValue(name, value);
    } catch {
      throw new DiskliftError('InvalidRequest', `the header ${JSON.stringify(name)} has a name or a value that HTTP does not allow`);
    }
  }
}
