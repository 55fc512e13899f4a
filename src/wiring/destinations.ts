/**
 * The table of destinations, and how each row makes a target with the Secrets and ConfigMaps that a request refers to.
 */

import type { BufferPool } from '../common/buffers.ts';
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
import {
  DESTINATION_KINDS,
  type DestinationKey,
  type DestinationKind,
  type DestinationSpecs,
  ofDestination,
} from '../resource/destination-kinds.ts';
import type { CaBundleReference, DiskExport, HttpDestination, S3Destination, TcpDestination, TlsSpec } from '../resource/disk-export.ts';
import { diskKey, diskUrl } from '../resource/disk-place.ts';
import { quantityBytes } from '../resource/rules.ts';
import type { RequestStore } from '../stores/contract.ts';
import type { DestinationFiles, ExportTarget } from '../targets/contract.ts';
import type { HttpTargetOptions } from '../targets/http/http-target.ts';
import type { S3TargetOptions } from '../targets/s3/s3-options.ts';

export interface TargetEnvironment {
  resolve: RequestStore['resolve'];
  /** Whether a missing Secret or ConfigMap may be created later, so that another attempt is useful. */
  referencesMayCome: boolean;
  /** Receives the reason why a Secret cannot be used. Left out where the author of the request may see the reason. */
  logRefusal?: ((message: string) => void) | undefined;
  access: NetworkAccess;
  proxy: ProxyEnvironment;
  clock: Clock;
  random(): number;
  /** Shared by all transfers of the process. */
  buffers: BufferPool;
  /** Whether S3 may use the credentials in the environment of the process. */
  allowAmbientCredentials: boolean;
  /** The targets' own default when left out. */
  minRateBytesPerSecond?: number | undefined;
}

/** One disk of a request, and what its target is made with. */
interface DiskDestination {
  request: DiskExport;
  diskPath: string;
  environment: TargetEnvironment;
  /** Reads the Secrets and ConfigMaps of the request's namespace. */
  credentials: CredentialReader;
}

interface DestinationRow<Spec> extends DestinationKind<Spec> {
  /** Names the server for slots: exports to one server share its slots. @param namespace of the request */
  server(spec: Spec, namespace: string): string;
  /**
   * Creates the target, whose methods check the destination before the scan, send, and abort what an earlier attempt
   * left open.
   * @throws DiskliftError `InvalidRequest`, `CredentialsInvalid`, `ReferenceInvalid`, `DestinationNotAllowed`
   */
  createTarget(spec: Spec, disk: DiskDestination): Promise<ExportTarget>;
  /** Left out where nothing can lie beside an image. @throws as `createTarget` */
  createFiles?(spec: Spec, disk: DiskDestination): Promise<DestinationFiles>;
}

type DestinationTable = { readonly [Key in DestinationKey]: DestinationRow<DestinationSpecs[Key]> };

/**
 * The one table of destinations. A new kind is a folder below targets/ and a row: its first half in
 * resource/destination-kinds.ts, for the layers that must not import targets, and its second half here.
 */
const DESTINATIONS: DestinationTable = {
  http: {
    ...DESTINATION_KINDS.http,
    // The URL in a Secret is not read for this, so it counts as a server of its own.
    server: ({ url, urlSecretRef }, namespace) =>
      url === undefined ? `the URL in Secret ${namespace}/${urlSecretRef?.name}` : hostOf(url),
    async createTarget(spec, disk) {
      const { createHttpTarget } = await import('../targets/http/http-target.ts');
      return createHttpTarget(await httpOptions(spec, disk));
    },
    async createFiles(spec, disk) {
      const { createHttpFiles } = await import('../targets/http/http-files.ts');
      return createHttpFiles(await httpOptions(spec, disk));
    },
  },
  s3: {
    ...DESTINATION_KINDS.s3,
    server: (spec) => hostOf(serverOf(spec).href),
    async createTarget(spec, disk) {
      const { createS3Target } = await import('../targets/s3/s3-target.ts');
      return createS3Target(await s3Options(spec, disk));
    },
    async createFiles(spec, disk) {
      const { createS3Files } = await import('../targets/s3/s3-files.ts');
      return createS3Files(await s3Options(spec, disk));
    },
  },
  tcp: { ...DESTINATION_KINDS.tcp, server: ({ host }) => bareHost(host), createTarget: createTcp },
};

/** @throws DiskliftError `InvalidRequest` for a kind of destination that this version does not support */
export function destinationServer(request: DiskExport): string {
  return ofDestination(request, (key, spec) => DESTINATIONS[key].server(spec, request.metadata.namespace));
}

/** @throws DiskliftError as {@link DestinationRow.createTarget} */
export async function createTarget(request: DiskExport, diskPath: string, environment: TargetEnvironment): Promise<ExportTarget> {
  const disk = diskDestination(request, diskPath, environment);
  return ofDestination(request, (key, spec) => DESTINATIONS[key].createTarget(spec, disk));
}

/**
 * Files beside the image of a disk, with the present credentials.
 * @throws DiskliftError as {@link DestinationRow.createTarget}; `InvalidRequest` for a destination without such files
 */
export async function createFiles(request: DiskExport, diskPath: string, environment: TargetEnvironment): Promise<DestinationFiles> {
  const disk = diskDestination(request, diskPath, environment);
  return ofDestination(request, async (key, spec) => {
    const files = await DESTINATIONS[key].createFiles?.(spec, disk);
    if (files !== undefined) return files;
    throw new DiskliftError('InvalidRequest', `spec.destination.${key}: no receipt can lie beside its images`);
  });
}

function diskDestination(request: DiskExport, diskPath: string, environment: TargetEnvironment): DiskDestination {
  const { namespace } = request.metadata;
  const credentials = createCredentialReader({ ...environment, namespace, mayCome: environment.referencesMayCome });
  return { request, diskPath, environment, credentials };
}

function hostOf(url: string): string {
  return URL.canParse(url) ? bareHost(new URL(url).hostname) : url;
}

function serverOf({ endpoint, region }: S3Destination): URL {
  return new URL(endpoint ?? `https://s3.${region}.amazonaws.com`);
}

async function httpOptions(spec: HttpDestination, disk: DiskDestination): Promise<HttpTargetOptions> {
  const { credentials, environment } = disk;
  const { method, ifNoneMatch, createCollections, headersSecretRef } = spec;
  const { text: url, secretName } = await urlOf(spec, disk);
  const endpoint = endpointOf(new URL(url));
  return {
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
  };
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
  return { ...template, text: diskUrl(template.text, request, diskPath) };
}

async function s3Options(spec: S3Destination, { request, diskPath, environment, credentials }: DiskDestination): Promise<S3TargetOptions> {
  const { endpoint, region, bucket, forcePathStyle, partSize, maxParts, concurrency, checksum, sha256Object, ifNotExists } = spec;
  const { credentialsSecretRef } = spec;
  const server = endpointOf(serverOf(spec));
  if (credentialsSecretRef === undefined && !environment.allowAmbientCredentials)
    throw new DiskliftError(
      'CredentialsInvalid',
      `s3://${bucket}: the request has no credentialsSecretRef, and the sidecar may not use its own (allowAmbientCredentials)`,
    );
  return {
    ...(endpoint === undefined ? {} : { endpoint }),
    region,
    bucket,
    key: diskKey(spec.key, request, diskPath),
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
  };
}

/**
 * Reads anew at each call, and returns the last value where that fails. Without it, nobody could abort an open upload
 * after its Secret was deleted. Lives no longer than the target.
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

async function createTcp(spec: TcpDestination, { request, diskPath, environment, credentials }: DiskDestination): Promise<ExportTarget> {
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
