/** An HTTP server that takes a body whole: WebDAV, presigned URLs of object stores, CDI's upload proxy. */

import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { readHttpUrl } from '../../common/http-url.ts';
import type { ExportTarget, Receipt } from '../contract.ts';
import type { NetworkAccess } from '../policy/network-access.ts';
import type { ProxySettings } from '../policy/proxy-route.ts';
import type { TlsMaterial } from '../tls-material.ts';
import { compareDigest, type Sent } from './compare-digest.ts';
import { type Answer, judgeAnswer } from './judge-answer.ts';
import { publicUrl } from './public-url.ts';
import { followRedirect, type Origin } from './redirect.ts';
import { checkHeaders } from './request-headers.ts';
import { secretsOf } from './secrets-of.ts';
import { sendUpload, type UploadLimits } from './send-upload.ts';

export interface HttpTargetOptions {
  /** http or https. May hold secrets in its user and its query. */
  url: string;
  method: 'PUT' | 'POST';
  /** Sent to the URL's own origin only. */
  headers?: Readonly<Record<string, string>>;
  /** Refuse to replace what is there (RFC 9110, section 13.1.2). */
  ifNoneMatch?: boolean;
  tls?: TlsMaterial;
  /** What it may connect to, redirects included. */
  access: NetworkAccess;
  proxy?: ProxySettings | undefined;
  clock: Clock;
  limits?: Partial<UploadLimits>;
}

const LIMITS: UploadLimits = { connectMs: 30_000, continueMs: 1500, idleMs: 120_000, answerMs: 600_000 };

const MOST_REDIRECTS = 5;

/** @throws DiskliftError `InvalidRequest` for a URL that is none, and for headers that cannot be sent */
export function createHttpTarget(options: HttpTargetOptions): ExportTarget {
  const reading = readHttpUrl(options.url);
  if ('problem' in reading) throw new DiskliftError('InvalidRequest', `the destination's URL ${reading.problem}`);
  const { url } = reading;
  const { method, clock, access, ifNoneMatch = false, proxy = {}, headers = {} } = options;
  checkHeaders(headers);
  const limits = { ...LIMITS, ...options.limits };
  const how = { method, ifNoneMatch, access, proxy, clock, limits };
  const first: Origin = { url, headers, tls: options.tls ?? {} };

  return {
    async send(image, context) {
      let origin = first;
      let expectContinue = true;
      let redirects = 0;
      for (;;) {
        const { answer, seal } = await sendUpload({ ...how, origin, expectContinue, image, context });
        const where = publicUrl(origin.url);
        const verdict = judgeAnswer(answer, { where, secrets: secretsOf(origin), nowMs: clock.nowMs() });
        if (verdict === 'arrived') return receiptOf(answer, { image, seal, where, signal: context.signal });
        if (verdict === 'expectation failed' && expectContinue) expectContinue = false;
        else if (verdict === 'redirect' && redirects < MOST_REDIRECTS) {
          origin = followRedirect(origin, answer.headers.location);
          redirects += 1;
        } else throw refusal(verdict, where);
      }
    },
    // A request that is cut leaves nothing at a server that could be gone on with.
    abandon: async () => {},
  };
}

function refusal(verdict: Exclude<ReturnType<typeof judgeAnswer>, 'arrived'>, where: string): DiskliftError {
  if (verdict instanceof DiskliftError) return verdict;
  const what = verdict === 'redirect' ? `redirects more than ${MOST_REDIRECTS} times` : 'answered 417 to a request without expectations';
  return new DiskliftError('DestinationRejected', `${where}: ${what}`);
}

/** @throws as {@link compareDigest} */
async function receiptOf(answer: Answer, sent: Sent): Promise<Receipt> {
  const isProven = await compareDigest(answer, sent);
  const { etag } = answer.headers;
  const { sha256 } = sent.seal;
  return {
    location: sent.where,
    sizeBytes: sent.image.sizeBytes,
    ...(etag === undefined ? {} : { etag }),
    ...(sha256 === undefined ? {} : { sha256 }),
    proof: isProven ? 'digest' : 'status',
  };
}
