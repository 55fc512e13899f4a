/**
 * One attempt's way to an S3 server: the SDK's client, with time limits, typed errors and credentials that may expire.
 */

import type { S3Client } from '@aws-sdk/client-s3';
import { abortable } from '../common/abortable.ts';
import { DiskliftError } from '../common/errors.ts';
import { basicCredentials, readHttpUrl, userOf } from '../common/http-url.ts';
import { createGuardedAgents } from '../network/guarded-agent.ts';
import { type ProxySettings, proxyFor } from '../network/open-connection.ts';
import { Activity, limitAnswers, type Watched, withinSilence } from './request-limits.ts';
import { areCredentialsExpired, isUnverified, s3Error } from './s3-error.ts';
import type { S3SessionLimits, S3SessionOptions } from './session-options.ts';

type Sdk = typeof import('@aws-sdk/client-s3');

/** The client and the limits of one request. */
interface Exchange extends Watched {
  client: S3Client;
}

interface RequestOptions {
  signal: AbortSignal;
  /** How long nothing may move; {@link S3SessionLimits.silentMs} when left out. */
  silentMs?: number;
  /**
   * Limit of the whole request, however steadily bytes move. None when left out: then `silentMs` counts from the last
   * byte of the body.
   */
  limitMs?: number;
  /** Limit of the answer's body where the default is too small. */
  maxAnswerBytes?: number;
  /** Called whenever the request has failed, also when it is made once more then. */
  onFailed?: (() => void) | undefined;
}

export interface S3Session<Limits extends S3SessionLimits = S3SessionLimits> {
  readonly sdk: Sdk;
  /** The object and the server in a form that may be shown. */
  readonly where: string;
  readonly limits: Limits;
  /** Whether bytes travel in the clear. */
  readonly isPlain: boolean;
  /**
   * Makes one request. Makes it once more with new credentials where they had expired, and, without TLS, where the
   * signature does not match: a changed bit looks like a wrong secret key.
   * @throws DiskliftError
   */
  request<T>(make: (exchange: Exchange) => Promise<T>, how: RequestOptions): Promise<T>;
  close(): void;
}

/** @throws DiskliftError `InvalidRequest` for an endpoint that is no URL, `CredentialsInvalid`, `Cancelled` */
export async function openS3Session<Limits extends S3SessionLimits>(
  options: S3SessionOptions & { limits: Limits },
  signal: AbortSignal,
): Promise<S3Session<Limits>> {
  const { clock, region, bucket, key, limits } = options;
  const endpoint = endpointOf(options.endpoint);
  const where = `s3://${bucket}/${key} at ${endpoint?.host ?? `Amazon S3, ${region}`}`;
  // Loading takes a tenth of a second, so only exports to S3 load it.
  const [sdk, { NodeHttpHandler }] = await Promise.all([import('@aws-sdk/client-s3'), import('@smithy/node-http-handler')]);
  const clients: S3Client[] = [];
  const activity = new Activity();
  const secrets = new Set(secretsOfProxy(endpoint, options.proxy));
  let mayQuote = true;
  const onUnquotable = () => {
    mayQuote = false;
  };

  async function connect(): Promise<S3Client> {
    const credentials = options.credentials === undefined ? undefined : await abortable(options.credentials(), signal);
    // Copied by name, because the SDK adds fields to a credentials object that it has used.
    const { accessKeyId, secretAccessKey, sessionToken } = credentials ?? {};
    for (const secret of [accessKeyId, secretAccessKey, sessionToken]) if (secret !== undefined) secrets.add(secret);
    const client = new sdk.S3Client({
      region,
      ...(endpoint === undefined ? {} : { endpoint: endpoint.href }),
      ...(credentials === undefined ? {} : { credentials: withoutUndefined(credentials) }),
      forcePathStyle: options.forcePathStyle,
      // Retries happen in withRetries, which decides by the kind of request and reacts to a cancel.
      maxAttempts: 1,
      logger: SILENT,
      // Many servers other than Amazon's reject default checksums and signed chunks.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      // With it each request would wait 6 s for servers that never send 100 Continue.
      expectContinueHeader: false,
      requestHandler: limitAnswers(
        new NodeHttpHandler({
          ...createGuardedAgents({ access: options.access, tls: options.tls, proxy: options.proxy, keepAlive: true, onUnquotable }),
          connectionTimeout: limits.connectMs,
        }),
        where,
      ),
    });
    // Credentials that the SDK found by itself.
    client.middlewareStack.add(
      (next) => (args) => {
        for (const secret of signedSecrets((args.request as { headers: Record<string, string> }).headers)) secrets.add(secret);
        return next(args);
      },
      { step: 'finalizeRequest', priority: 'low', name: 'signedSecrets' },
    );
    clients.push(client);
    return client;
  }

  const failureOf = (error: unknown) =>
    s3Error(error, { where, nowMs: clock.nowMs(), secrets: [...secrets], mayQuote, checksum: options.checksum });

  let current = connect();
  await current;

  /**
   * Many requests may find at the same time that their credentials have expired. The first one requests new credentials
   * for all.
   */
  function renew(): void {
    const [used, renewed] = [current, connect()];
    current = renewed;
    // With the old credentials the next request is refused and renews again. A cached failure would fail every later
    // request.
    renewed.catch(() => {
      if (current === renewed) current = used;
    });
  }

  const once = <T>(client: S3Client, make: (exchange: Exchange) => Promise<T>, how: RequestOptions) =>
    withinSilence((watched) => make({ client, ...watched }), { silentMs: limits.silentMs, ...how, where, clock, activity });

  const isPlain = endpoint?.protocol === 'http:';

  return {
    sdk,
    where,
    limits,
    isPlain,
    async request(make, how) {
      const used = current;
      try {
        return await once(await used, make, how);
      } catch (error) {
        if (areCredentialsExpired(error)) {
          if (current === used) renew();
        } else if (!(isPlain && isUnverified(error))) throw failureOf(error);
      }
      try {
        return await once(await current, make, how);
      } catch (error) {
        throw failureOf(error);
      }
    },
    close() {
      for (const client of clients) client.destroy();
    },
  };
}

/** The access key and the session token of a signed request. */
function signedSecrets(headers: Readonly<Record<string, string>>): string[] {
  const accessKeyId = /Credential=([^/,]+)\//.exec(headers.authorization ?? '')?.[1];
  return [accessKeyId, headers['x-amz-security-token']].filter((each) => each !== undefined);
}

/** Includes the secrets of a proxy that NO_PROXY bypasses. */
function secretsOfProxy(endpoint: URL | undefined, settings: ProxySettings = {}): string[] {
  const proxy = proxyFor(endpoint ?? AMAZON, { ...settings, noProxy: '' });
  if (proxy === undefined) return [];
  return [...Object.values(userOf(proxy)), proxy.username, proxy.password, basicCredentials(proxy)?.replace('Basic ', '') ?? ''];
}

const AMAZON = new URL('https://s3.amazonaws.com');

/** The SDK would write to the terminal, and its errors already have the same facts. */
const SILENT = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

function endpointOf(text: string | undefined): URL | undefined {
  if (text === undefined) return undefined;
  const reading = readHttpUrl(text);
  if ('problem' in reading) throw new DiskliftError('InvalidRequest', `the endpoint's URL ${reading.problem}`);
  const { username, password, search } = reading.url;
  if (username !== '' || password !== '' || search !== '')
    throw new DiskliftError('InvalidRequest', "the endpoint's URL has a user or a query; give it without");
  return reading.url;
}

function withoutUndefined({
  accessKeyId,
  secretAccessKey,
  sessionToken,
}: {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string | undefined;
}) {
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
}
