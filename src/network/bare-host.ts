/** A host as it is compared. */

import { unbracketed } from '../common/unbracketed.ts';

/** Without the brackets of an IPv6 address, its zone, and the dot that ends a fully qualified name; in lower case. */
export function bareHost(host: string): string {
  return unbracketed(host).replace(/%.*$/, '').replace(/\.$/, '').toLowerCase();
}
