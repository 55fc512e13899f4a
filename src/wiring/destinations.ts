/** From the destination of a request to a target, with the Secrets and ConfigMaps that it refers to. */

import type { BufferPool } from '../common/buffer-pool.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import type { ProxyEnvironment } from '../config/environment.ts';
import {
  type CredentialReader,
  createCredentialReader,
  type DestinationUrl,
  type Endpoint,
  endpointOf,
  REFERENCE_CODES,
} from '../credentials/credentials.ts';
import { caBundle, httpHeaders, s3Credentials, tlsClientCertificate } from '../credentials/secret-data.ts';
import { bareHost } from '../network/addresses.ts';
import type { NetworkAccess } from '../network/destination-policy.ts';
import type { TlsMaterial } from '../network/guarded-connection.ts';
import type { CaBundleReference, DiskExport, HttpDestination, S3Destination, TcpDestination, TlsSpec } from '../resource/disk-export.ts';
import { expandPlaceholders, expandUrl, placeholderValues } from '../resource/placeholders.ts';
import { quantityBytes } from '../resource/rules.ts';
import type { RequestStore } from '../stores/contract.ts';
import type { ExportTarget } from '../targets/contract.ts';

export interface TargetEnvironment {
  resolve: RequestStore['resolve'];
  /** Whether a Secret or a ConfigMap that does not exist may yet come. */
  referencesMayCome: boolean;
  /** Receives why a Secret cannot be used, where the author of the request must not learn it; left out where the author may. */
  logRefusal?: ((message: string) => void) | undefined;
  access: NetworkAccess;
  proxy: ProxyEnvironment;
  clock: Clock;
  random(): number;
  /** Of the process. */
  buffers: BufferPool;
  /** Whether S3 may use what the environment of the process has. */
  allowAmbientCredentials: boolean;
  /** The targets' own default when left out. */
  minRateBytesPerSecond?: number | undefined;
}

/** Where a disk goes, as text: two disks for which it is the same would overwrite one another. */
export function destinationOf(request: DiskExport, diskPath: string): string {
  const { http, s3, tcp } = request.spec.destination;
  const values = placeholderValues(request, diskPath);
  if (http?.url !== undefined) return expandUrl(http.url, values);
  // What a Secret holds is not read before it is needed, so it counts as one place.
  if (http?.urlSecretRef !== undefined) return `the URL in ${http.urlSecretRef.name}/${http.urlSecretRef.key}`;
  if (s3 !== undefined) return `s3://${s3.bucket}/${expandPlaceholders(s3.key, values)}`;
  if (tcp === undefined) throw new DiskliftError('InvalidRequest', 'spec.destination names no destination');
  // A receiver that acknowledges is told which disk it gets.
  return `${tcp.host}:${tcp.port}${tcp.protocol === 'Acknowledged' ? ` for ${diskPath}` : ''}`;
}

/** Names the host that an export sends to; a URL that a Secret holds counts as a host of its own. */
export function destinationHostOf({ metadata, spec }: DiskExport): string {
  const { http, s3, tcp } = spec.destination;
  const url = http?.url ?? (s3 === undefined ? undefined : serverOf(s3).href);
  if (url !== undefined) return URL.canParse(url) ? bareHost(new URL(url).hostname) : url;
  if (http?.urlSecretRef !== undefined) return `the URL in Secret ${metadata.namespace}/${http.urlSecretRef.name}`;
  return bareHost(tcp?.host ?? '');
}

function serverOf({ endpoint, region }: S3Destination): URL {
  return new URL(endpoint ?? `https://s3.${region}.amazonaws.com`);
}

/** @throws DiskliftError `InvalidRequest`, `CredentialsInvalid`, `DestinationNotAllowed` */
export async function composeTarget(request: DiskExport, diskPath: string, environment: TargetEnvironment): Promise<ExportTarget> {
  const { http, s3, tcp } = request.spec.destination;
  const { namespace } = request.metadata;
  const credentials = createCredentialReader({ ...environment, namespace, mayCome: environment.referencesMayCome });
  const disk: DiskDestination = { request, diskPath, environment, credentials };
  if (http !== undefined) return composeHttp(http, disk);
  if (s3 !== undefined) return composeS3(s3, disk);
  if (tcp !== undefined) return composeTcp(tcp, disk);
  throw new DiskliftError('InvalidRequest', 'spec.destination names no destination');
}

interface DiskDestination {
  request: DiskExport;
  diskPath: string;
  environment: TargetEnvironment;
  credentials: CredentialReader;
}

async function composeHttp(spec: HttpDestination, disk: DiskDestination): Promise<ExportTarget> {
  const { createHttpTarget } = await import('../targets/http/http-target.ts');
  const { credentials, environment } = disk;
  const { method, ifNoneMatch, createCollections, headersSecretRef } = spec;
  const { text: url, secretName } = await urlOf(spec, disk);
  const endpoint = endpointOf(new URL(url));
  return createHttpTarget({
    url,
    secretName,
    method,
    ifNoneMatch,
    createCollections,
    limits: { ...rateLimitOf(environment), ...answerLimitOf(spec) },
    ...(headersSecretRef === undefined ? {} : { headers: httpHeaders(await credentials.readSecret(headersSecretRef, endpoint)) }),
    tls: await tlsOf(spec.tls, endpoint, credentials),
    clock: environment.clock,
    access: environment.access,
    proxy: environment.proxy,
  });
}

function rateLimitOf({ minRateBytesPerSecond }: TargetEnvironment): { minRateBytesPerSecond?: number } {
  return minRateBytesPerSecond === undefined ? {} : { minRateBytesPerSecond };
}

function answerLimitOf({ answerTimeoutSeconds }: Pick<HttpDestination, 'answerTimeoutSeconds'>): { answerMs?: number } {
  return answerTimeoutSeconds === undefined ? {} : { answerMs: answerTimeoutSeconds * 1000 };
}

async function urlOf({ url, urlSecretRef }: HttpDestination, { request, diskPath, credentials }: DiskDestination): Promise<DestinationUrl> {
  const inRequest = url === undefined ? undefined : { text: url };
  const template = inRequest ?? (urlSecretRef === undefined ? undefined : await credentials.readSecretUrl(urlSecretRef));
  if (template === undefined) throw new DiskliftError('InvalidRequest', 'spec.destination.http names no URL');
  return { ...template, text: expandUrl(template.text, placeholderValues(request, diskPath)) };
}

async function composeS3(spec: S3Destination, { request, diskPath, environment, credentials }: DiskDestination): Promise<ExportTarget> {
  const { createS3Target } = await import('../targets/s3/s3-target.ts');
  const { endpoint, region, bucket, forcePathStyle, partSize, maxParts, concurrency, checksum, sha256Object, ifNotExists } = spec;
  const { credentialsSecretRef } = spec;
  const server = endpointOf(serverOf(spec));
  if (credentialsSecretRef === undefined && !environment.allowAmbientCredentials)
    throw new DiskliftError(
      'CredentialsInvalid',
      `s3://${bucket}: the request has no credentialsSecretRef, and the sidecar may not use its own (allowAmbientCredentials)`,
    );
  return createS3Target({
    ...(endpoint === undefined ? {} : { endpoint }),
    region,
    bucket,
    key: expandPlaceholders(spec.key, placeholderValues(request, diskPath)),
    forcePathStyle,
    ...(partSize === undefined ? {} : { partSizeBytes: quantityBytes(partSize) }),
    maxParts,
    concurrency,
    checksum,
    sha256Object,
    ifNotExists,
    ...(credentialsSecretRef === undefined
      ? {}
      : { credentials: rememberLast(async () => s3Credentials(await credentials.readSecret(credentialsSecretRef, server))) }),
    tls: await tlsOf(spec.tls, server, credentials),
    access: environment.access,
    proxy: environment.proxy,
    clock: environment.clock,
    random: environment.random,
    buffers: environment.buffers,
    limits: rateLimitOf(environment),
  });
}

/**
 * Reads anew at each call; where that fails, gives what it gave before. A Secret that is deleted while an upload is open would
 * otherwise leave the upload there for ever. Lives no longer than the target.
 */
function rememberLast<T>(read: () => Promise<T>): () => Promise<T> {
  let last: T | undefined;
  return async () => {
    try {
      last = await read();
    } catch (error) {
      if (last === undefined) throw error;
    }
    return last;
  };
}

async function composeTcp(spec: TcpDestination, { request, diskPath, environment, credentials }: DiskDestination): Promise<ExportTarget> {
  const { createTcpTarget } = await import('../targets/tcp/tcp-target.ts');
  const { host, port, protocol, tls } = spec;
  return createTcpTarget({
    host,
    port,
    protocol,
    ...(tls === undefined ? {} : { tls: await tlsOf(tls, { hostname: host, port, isEncrypted: true }, credentials) }),
    access: environment.access,
    clock: environment.clock,
    exportUid: request.metadata.uid,
    disk: diskPath,
    limits: { ...rateLimitOf(environment), ...answerLimitOf(spec) },
  });
}

async function tlsOf(spec: TlsSpec | undefined, endpoint: Endpoint, credentials: CredentialReader): Promise<TlsMaterial> {
  if (spec === undefined) return {};
  const { caBundleRef, clientCertificateSecretRef, serverName } = spec;
  return {
    ...(caBundleRef === undefined ? {} : { ca: await caOf(caBundleRef, endpoint, credentials) }),
    ...(clientCertificateSecretRef === undefined
      ? {}
      : tlsClientCertificate(await credentials.readSecret(clientCertificateSecretRef, endpoint))),
    ...(serverName === undefined ? {} : { serverName }),
  };
}

async function caOf({ configMap, secret, key }: CaBundleReference, endpoint: Endpoint, credentials: CredentialReader): Promise<string> {
  if (configMap !== undefined)
    return caBundle(
      await credentials.readConfigMapKey({ name: configMap, key }),
      `ConfigMap ${configMap}: its entry ${key}`,
      REFERENCE_CODES.ConfigMap,
    );
  if (secret !== undefined)
    return caBundle(await credentials.readSecretKey({ name: secret, key }, endpoint), `Secret ${secret}: its entry ${key}`);
  throw new DiskliftError('InvalidRequest', 'caBundleRef names neither a ConfigMap nor a Secret');
}
