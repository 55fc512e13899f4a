/** An HTTP server that takes a body whole: WebDAV, presigned URLs of object stores, CDI's upload proxy. */

import { abortable } from '../../common/abortable.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { readHttpUrl } from '../../common/http-url.ts';
import type { VirtualImage } from '../../image/contract.ts';
import type { NetworkAccess } from '../../network/destination-policy.ts';
import type { TlsMaterial } from '../../network/guarded-connection.ts';
import type { ProxySettings } from '../../network/open-connection.ts';
import { repeatsSecret } from '../../network/server-message.ts';
import type { ExportTarget, Receipt, Seal, TransferContext } from '../contract.ts';
import { DEFAULT_PACE } from '../pace-watch.ts';
import type { Answer } from './answer.ts';
import { judgeAnswer, type Verdict } from './judge-answer.ts';
import { createCollections } from './make-collections.ts';
import { checkHeaders, withConnection } from './open-request.ts';
import { followRedirect, type Origin, publicUrl, secretsOf, storedAt } from './origin.ts';
import { compareDigest, type LookupLimits, lookUp } from './prove-image.ts';
import { sendUpload, type UploadLimits } from './send-upload.ts';

export interface HttpTargetOptions {
  /** http or https. May hold secrets in its user and its query. */
  url: string;
  /** Name of the Secret that holds the URL. Only the URL's host is then shown. */
  secretName?: string | undefined;
  method: 'PUT' | 'POST';
  /** Sent to the URL's own origin only. */
  headers?: Readonly<Record<string, string>>;
  /** Refuse to replace what is there (RFC 9110, section 13.1.2). */
  ifNoneMatch?: boolean;
  /** Make the collections above the URL's path first, by MKCOL (RFC 4918, section 9.3). */
  createCollections?: boolean;
  tls?: TlsMaterial;
  /** The policy for all connections, redirects included. */
  access: NetworkAccess;
  proxy?: ProxySettings | undefined;
  clock: Clock;
  limits?: Partial<UploadLimits & LookupLimits>;
}

export const LIMITS: UploadLimits & LookupLimits = { ...DEFAULT_PACE, connectMs: 30_000, continueMs: 1500, queryMs: 10_000 };

export const MAX_REDIRECTS = 5;

/** @throws DiskliftError `InvalidRequest` for a URL that is not valid, and for headers that cannot be sent */
export function createHttpTarget(options: HttpTargetOptions): ExportTarget {
  const reading = readHttpUrl(options.url);
  if ('problem' in reading) throw new DiskliftError('InvalidRequest', `the destination's URL ${reading.problem}`);
  const { url } = reading;
  const { secretName, headers = {}, tls = {} } = options;
  checkHeaders(headers);
  const origin = { url, secretName, headers, tls };
  return {
    check(signal) {
      const { access, clock, proxy = {}, limits } = options;
      const { connectMs } = { ...LIMITS, ...limits };
      return withConnection({ origin, access, proxy, clock, connectMs, signal }, async () => {});
    },
    send: (image, context) => new HttpTransfer({ ...options, origin }, image, context).run(),
    // An aborted request leaves no upload at the server that could be resumed.
    abandon: async () => {},
  };
}

class HttpTransfer {
  private readonly options: HttpTargetOptions & { origin: Origin };
  private readonly image: VirtualImage;
  private readonly context: TransferContext;
  private readonly common: { access: NetworkAccess; proxy: ProxySettings; clock: Clock; limits: UploadLimits & LookupLimits };
  private origin: Origin;

  constructor(options: HttpTargetOptions & { origin: Origin }, image: VirtualImage, context: TransferContext) {
    const { access, clock, proxy = {}, limits, origin } = options;
    this.options = options;
    this.image = image;
    this.context = context;
    this.common = { access, proxy, clock, limits: { ...LIMITS, ...limits } };
    this.origin = origin;
  }

  async run(): Promise<Receipt> {
    const { method, ifNoneMatch = false, clock } = this.options;
    const { image, context, common } = this;
    const { hasSentBefore = false } = context;
    const notMade = await this.makeCollections();
    let expectContinue = true;
    let redirects = 0;
    for (;;) {
      const { origin } = this;
      const { answer, seal } = await sendUpload({ ...common, method, ifNoneMatch, origin, expectContinue, image, context });
      if (answer instanceof DiskliftError) return await this.receiptOfFound(answer, seal);
      const verdict = judgeAnswer(answer, { method, origin, nowMs: clock.nowMs(), hasSentBefore });
      if (verdict === 'arrived') return await this.receiptOf(answer, seal);
      if (verdict === 'expectation failed' && expectContinue) expectContinue = false;
      else if (verdict === 'redirect' && redirects < MAX_REDIRECTS) {
        this.origin = followRedirect(origin, answer);
        redirects += 1;
      } else {
        const refusal = refusalOf(verdict, publicUrl(origin));
        if (mayBeThere(answer, hasSentBefore)) return await this.receiptOfFound(refusal, seal);
        throw notMade !== undefined && NO_PLACE.has(answer.status) ? withReason(refusal, notMade) : refusal;
      }
    }
  }

  private async makeCollections(): Promise<string | undefined> {
    const { options, common, origin, context } = this;
    return options.createCollections ? createCollections({ ...common, origin, signal: context.signal }) : undefined;
  }

  /**
   * The receipt of an image that the server has despite `failure`.
   * @throws `failure` where the server lacks it or cannot be asked
   */
  private async receiptOfFound(failure: DiskliftError, known: Seal): Promise<Receipt> {
    const { options, common, origin, image, context } = this;
    // The image of a POST is not stored at the request's URL.
    if (options.method !== 'PUT') throw failure;
    const { signal } = context;
    const seal = async () => (known.sha256 === undefined ? await abortable(context.seal(), signal) : known);
    const found = await lookUp({ ...common, origin, image, signal, seal });
    if (found.isImage)
      return { ...receipt(publicUrl(origin), { origin, image, seal: found.seal, answer: found.answer }), proof: 'readBack' };
    throw withReason(failure, found.reason);
  }

  /** @throws as compareDigest */
  private async receiptOf(answer: Answer, seal: Seal): Promise<Receipt> {
    const { origin, image, context, options } = this;
    const isProven = await compareDigest(answer, { image, seal, where: publicUrl(origin), signal: context.signal });
    return { ...receipt(storedAt(answer, origin, options.access), { origin, image, seal, answer }), proof: isProven ? 'digest' : 'status' };
  }
}

/** Either a proxy timed out although the server had the whole image, or bytes of an earlier attempt block this one. */
function mayBeThere({ status, wasComplete }: Answer, hasSentBefore: boolean): boolean {
  return (wasComplete && AMBIGUOUS.has(status)) || (hasSentBefore && IN_THE_WAY.has(status));
}

const AMBIGUOUS: ReadonlySet<number> = new Set([502, 503, 504]);
const IN_THE_WAY: ReadonlySet<number> = new Set([403, 405, 409, 412, 423]);
/** Statuses that servers answer where a folder is missing. */
const NO_PLACE: ReadonlySet<number> = new Set([403, 404, 405, 409]);

function refusalOf(verdict: Exclude<Verdict, 'arrived'>, where: string): DiskliftError {
  if (verdict instanceof DiskliftError) return verdict;
  const what = verdict === 'redirect' ? `redirects more than ${MAX_REDIRECTS} times` : 'answered 417 to a request without expectations';
  return new DiskliftError('DestinationRejected', `${where}: ${what}`);
}

function withReason({ code, message, cause, retryable, retryAfterMs }: DiskliftError, reason: string): DiskliftError {
  return new DiskliftError(code, `${message}; ${reason}`, cause, { retryable, retryAfterMs });
}

interface Received {
  origin: Origin;
  image: VirtualImage;
  seal: Seal;
  answer: Answer;
}

function receipt(location: string, { origin, image, seal, answer }: Received): Omit<Receipt, 'proof'> {
  const { etag } = answer.headers;
  const { sha256 } = seal;
  return {
    location,
    sizeBytes: image.sizeBytes,
    ...(etag === undefined || repeatsSecret(etag, secretsOf(origin)) ? {} : { etag }),
    ...(sha256 === undefined ? {} : { sha256 }),
  };
}
