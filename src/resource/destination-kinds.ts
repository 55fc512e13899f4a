/**
 * The kinds of destinations that a request can name, with the facts that need no connection. Pure. A new field of
 * `DestinationSpec` does not compile until it has a row here and in wiring/destinations.ts, which adds the target.
 */

import { DiskliftError } from '../common/errors.ts';
import type {
  DestinationSpec,
  DiskExport,
  DiskExportStatus,
  HttpDestination,
  S3Destination,
  TcpDestination,
  TlsSpec,
} from './disk-export.ts';
import { diskKey, diskUrl } from './disk-place.ts';
import { PLACEHOLDERS } from './placeholders.ts';
import { CONTROL_CHARACTER, CONTROL_CHARACTERS, type FieldError, quantityBytes } from './rules.ts';

/** The part of a request for each kind, by the name of its field. */
export type DestinationSpecs = Required<DestinationSpec>;
export type DestinationKey = keyof DestinationSpecs;

/** Name of a kind in the status, in metrics, in the log and on the pages. */
export type DestinationName = NonNullable<DiskExportStatus['destination']>;

interface RequestDisk {
  request: Pick<DiskExport, 'metadata' | 'spec'>;
  /** Path in the status. */
  diskPath: string;
}

export interface DestinationKind<Spec> {
  name: DestinationName;
  /** Where images go, for people: holds no secret, and its placeholders are not filled in. */
  address(spec: Spec): string;
  /**
   * Where the image of one disk goes, as text. Two disks with equal places would overwrite each other.
   * @throws DiskliftError `InvalidRequest` for a place that cannot be filled in
   */
  place(spec: Spec, disk: RequestDisk): string;
  /**
   * Rules that the schema cannot state: twins of x-kubernetes-validations in manifests/crd.yaml.
   * @param field path of `spec`
   */
  errors(spec: Spec, field: string): Iterable<FieldError>;
}

type DestinationKinds = { readonly [Key in DestinationKey]: DestinationKind<DestinationSpecs[Key]> };

export const DESTINATION_KINDS: DestinationKinds = {
  http: {
    name: 'HTTP',
    address: ({ url, urlSecretRef }) => (url === undefined ? `the URL in Secret ${urlSecretRef?.name ?? ''}` : publicAddress(url)),
    place({ url, urlSecretRef }, { request, diskPath }) {
      if (url !== undefined) return diskUrl(url, request, diskPath);
      // disklift reads a Secret only when it needs the value, so all URLs in one entry count as one place.
      return `the URL in ${urlSecretRef?.name}/${urlSecretRef?.key}`;
    },
    errors: httpErrors,
  },
  s3: {
    name: 'S3',
    address: ({ bucket, key, endpoint }) => `s3://${bucket}/${key} at ${endpoint === undefined ? 'AWS' : publicAddress(endpoint)}`,
    place: ({ bucket, key }, { request, diskPath }) => `s3://${bucket}/${diskKey(key, request, diskPath)}`,
    errors: s3Errors,
  },
  tcp: {
    name: 'TCP',
    address: ({ host, port }) => `${host}:${port}`,
    // The Acknowledged protocol names the disk, so one receiver can keep several disks apart.
    place: ({ host, port, protocol }, { diskPath }) => `${host}:${port}${protocol === 'Acknowledged' ? ` for ${diskPath}` : ''}`,
    errors: ({ tls }: TcpDestination, field) => tlsErrors(tls, `${field}.tls`),
  },
};

const KEYS = Object.keys(DESTINATION_KINDS) as DestinationKey[];

/** Names of all kinds. */
export const DESTINATION_NAMES: readonly DestinationName[] = KEYS.map((key) => DESTINATION_KINDS[key].name);

/**
 * Calls `use` with the field that the request has set.
 * @returns undefined for a kind that this version does not support
 */
function ifKnown<T>(
  destination: DestinationSpec,
  use: <Key extends DestinationKey>(key: Key, spec: DestinationSpecs[Key]) => T,
): T | undefined {
  for (const key of KEYS) {
    const spec = destination[key];
    if (spec !== undefined) return use(key, spec);
  }
  return undefined;
}

/**
 * Calls `use` with the field that the request has set.
 * @throws DiskliftError `InvalidRequest` where the request has no destination, or a kind that this version does not
 * support
 */
export function ofDestination<T extends {}>(
  { spec }: Pick<DiskExport, 'spec'>,
  use: <Key extends DestinationKey>(key: Key, spec: DestinationSpecs[Key]) => T,
): T {
  const result = ifKnown(spec.destination, use);
  if (result !== undefined) return result;
  throw new DiskliftError('InvalidRequest', 'spec.destination names no destination that this version of disklift knows');
}

/** @throws DiskliftError as {@link ofDestination} */
export function destinationName(request: Pick<DiskExport, 'spec'>): DestinationName {
  return ofDestination(request, (key) => DESTINATION_KINDS[key].name);
}

/** @throws DiskliftError as {@link ofDestination} and {@link DestinationKind.place} */
export function destinationPlace(request: Pick<DiskExport, 'metadata' | 'spec'>, diskPath: string): string {
  return ofDestination(request, (key, spec) => DESTINATION_KINDS[key].place(spec, { request, diskPath }));
}

/** @returns the destination for people; undefined for a kind that this version does not support */
export function describeKind(destination: DestinationSpec): { kind: DestinationName; address: string } | undefined {
  return ifKnown(destination, (key, spec) => ({ kind: DESTINATION_KINDS[key].name, address: DESTINATION_KINDS[key].address(spec) }));
}

/** The errors of a destination that the schema accepts. */
export function* destinationErrors(destination: DestinationSpec): Generator<FieldError> {
  const field = 'spec.destination';
  if (KEYS.filter((key) => destination[key] !== undefined).length !== 1)
    yield { field, message: `exactly one of ${KEYS.slice(0, -1).join(', ')} and ${KEYS.at(-1)} must be set` };
  yield* ifKnown(destination, (key, spec) => DESTINATION_KINDS[key].errors(spec, `${field}.${key}`)) ?? [];
}

const HTTP_URL = /^https?:\/\/([A-Za-z0-9._{}-]+|[[][0-9A-Fa-f:.]+[\]])(:[0-9]{1,5})?([/?][!-"$-[\]-~]*)?$/;
const BRACES_OUTSIDE_OF_PATH = /^https?:\/\/[^/?]*[{}]|[?].*[{}]/;
export const KNOWN_PLACEHOLDERS = /^([^{}]|[{](namespace|name|uid|claim|vm|date|timestamp|scheduledTime|disk)[}])*$/;
const ENDPOINT = /^https?:\/\/([A-Za-z0-9._-]+|[[][0-9A-Fa-f:.]+[\]])(:[0-9]{1,5})?(\/[A-Za-z0-9._~/-]*)?$/;

export const OTHER_BRACES = `may have no other braces than ${PLACEHOLDERS}`;
const HTTPS_ONLY = 'is for https only';

function* httpErrors({ url, urlSecretRef, tls, method, createCollections }: HttpDestination, field: string): Generator<FieldError> {
  yield* tlsErrors(tls, `${field}.tls`);
  if ((url === undefined) === (urlSecretRef === undefined)) yield { field, message: 'exactly one of url and urlSecretRef must be set' };
  if (createCollections && method !== 'PUT') yield { field: `${field}.createCollections`, message: 'is for PUT only' };
  if (url === undefined) return;
  if (!HTTP_URL.test(url))
    yield {
      field: `${field}.url`,
      message: 'must be an http or https URL of printable ASCII without user, password, fragment and backslash',
    };
  if (BRACES_OUTSIDE_OF_PATH.test(url)) yield { field: `${field}.url`, message: 'may have placeholders in its path only' };
  if (!KNOWN_PLACEHOLDERS.test(url)) yield { field: `${field}.url`, message: OTHER_BRACES };
  if (tls !== undefined && !url.startsWith('https://')) yield { field: `${field}.tls`, message: HTTPS_ONLY };
}

function* s3Errors({ endpoint, key, partSize, tls }: S3Destination, field: string): Generator<FieldError> {
  yield* tlsErrors(tls, `${field}.tls`);
  if (endpoint !== undefined && !ENDPOINT.test(endpoint))
    yield { field: `${field}.endpoint`, message: 'must be an http or https URL of a host, a port and a path' };
  if (!KNOWN_PLACEHOLDERS.test(key)) yield { field: `${field}.key`, message: OTHER_BRACES };
  if (CONTROL_CHARACTER.test(key)) yield { field: `${field}.key`, message: CONTROL_CHARACTERS };
  if (partSize !== undefined && !(quantityBytes(partSize) >= 5 * 2 ** 20 && quantityBytes(partSize) <= 5 * 2 ** 30))
    yield { field: `${field}.partSize`, message: 'must be from 5Mi to 5Gi' };
  if (tls !== undefined && endpoint !== undefined && !endpoint.startsWith('https://')) yield { field: `${field}.tls`, message: HTTPS_ONLY };
}

function* tlsErrors(tls: TlsSpec | undefined, field: string): Generator<FieldError> {
  const bundle = tls?.caBundleRef;
  if (bundle !== undefined && (bundle.configMap === undefined) === (bundle.secret === undefined))
    yield { field: `${field}.caBundleRef`, message: 'exactly one of configMap and secret must be set' };
}

/** A URL without user, password, query and fragment. */
function publicAddress(text: string): string {
  const url = URL.parse(text);
  if (url === null) return 'an address that cannot be read';
  // URL encodes the braces of placeholders.
  return `${url.origin}${url.pathname.replaceAll('%7B', '{').replaceAll('%7D', '}')}`;
}
