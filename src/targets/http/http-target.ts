/** An HTTP server that takes a body whole: WebDAV, presigned URLs of object stores, CDI's upload proxy. */

import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { ExportTarget, Receipt, Seal } from '../contract.ts';
import type { NetworkAccess } from '../policy/network-access.ts';
import type { ProxySettings } from '../policy/proxy-route.ts';
import type { TlsMaterial } from '../tls-material.ts';
import { type Answer, judgeAnswer } from './judge-answer.ts';
import { publicUrl } from './public-url.ts';
import { followRedirect, type Origin } from './redirect.ts';
import { sha256OfReprDigest } from './repr-digest.ts';
import { checkHeaders } from './request-headers.ts';
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
  const url = URL.canParse(options.url) ? new URL(options.url) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol))
    throw new DiskliftError('InvalidRequest', 'the destination is not a URL of http or https');
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
        const verdict = judgeAnswer(answer, publicUrl(origin.url), clock.nowMs());
        if (verdict === 'arrived') return receiptOf(origin.url, image.sizeBytes, answer, seal);
        if (verdict === 'expectation failed' && expectContinue) expectContinue = false;
        else if (verdict === 'redirect' && redirects < MOST_REDIRECTS) {
          origin = followRedirect(origin, answer.headers.location);
          redirects += 1;
        } else throw refusal(verdict, publicUrl(origin.url));
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

/** @throws DiskliftError `ChecksumMismatch` when the server has something else than was sent */
function receiptOf(url: URL, sizeBytes: number, { headers }: Answer, { sha256 }: Seal): Receipt {
  const location = publicUrl(url);
  const theirs = sha256OfReprDigest(headers['repr-digest']);
  if (theirs !== undefined && sha256 !== undefined && theirs !== sha256)
    throw new DiskliftError('ChecksumMismatch', `${location}: the server has SHA-256 ${theirs}, and ${sha256} was sent`);
  const { etag } = headers;
  return {
    location,
    sizeBytes,
    ...(etag === undefined ? {} : { etag }),
    ...(sha256 === undefined ? {} : { sha256 }),
    proof: theirs !== undefined && sha256 !== undefined ? 'digest' : 'status',
  };
}
