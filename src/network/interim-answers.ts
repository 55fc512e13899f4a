/** Bounds the interim answers (1xx, RFC 9110, section 15.2) to one request. Node parses them without a limit. */

import type http from 'node:http';
import { DiskliftError } from '../common/errors.ts';

/** A server that reports every 20 s that it is at work (102) may do so for two days. */
const MAX_INTERIM_ANSWERS = 10_000;

/** @param where the server in a form that may be shown */
export function limitInterimAnswers(request: http.ClientRequest, where: string): void {
  let count = 0;
  request.on('information', () => {
    count += 1;
    if (count > MAX_INTERIM_ANSWERS)
      request.destroy(
        new DiskliftError(
          'DestinationRejected',
          `${where}: sent more than ${MAX_INTERIM_ANSWERS} interim answers (1xx) to one request, and no final one`,
        ),
      );
  });
}
