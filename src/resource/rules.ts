/**
 * Rules for a request that no schema can state: twins of x-kubernetes-validations in manifests/crd.yaml, and of the API
 * server's rules for metadata.
 */

import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { parseBytes } from '../common/bytes.ts';
import type { DiskExport, DiskExportSpec } from './disk-export.ts';

/** A field of a request that is not valid. */
export interface FieldError {
  /** As the API server names it: `spec.source.disks[0].path`. */
  field: string;
  /** Goes on where the field's name has ended. */
  message: string;
}

/** Bytes of a quantity: `65536`, `64Ki` or `16M`. NaN for any other text, which the schema refuses. */
export function quantityBytes(quantity: number | string): number {
  return parseBytes(String(quantity), 'kubernetes') ?? Number.NaN;
}

/** Path of the only disk of a volume in Block mode: the device itself. */
const WHOLE_VOLUME = '.';

export const CONTROL_CHARACTER = /\p{Cc}/u;
export const CONTROL_CHARACTERS = 'must not hold control characters';

function* diskErrors(disks: NonNullable<DiskExportSpec['source']['disks']>): Generator<FieldError> {
  const paths = new Set<string>();
  for (const [index, { path }] of disks.entries()) {
    const field = `spec.source.disks[${index}]`;
    if (paths.has(path)) yield { field, message: `names ${JSON.stringify(path)}, which is in the list already` };
    paths.add(path);
    if (path !== WHOLE_VOLUME && path.split('/').some((part) => ['', '.', '..'].includes(part)))
      yield { field: `${field}.path`, message: 'must be relative to the volume, without empty parts, . and ..' };
    if (CONTROL_CHARACTER.test(path)) yield { field: `${field}.path`, message: CONTROL_CHARACTERS };
    if (path.includes('**')) yield { field: `${field}.path`, message: 'must not hold **; a * stands for characters of one name' };
  }
}

function* imageErrors({ clusterSize, version, refcountBits }: DiskExportSpec['image']): Generator<FieldError> {
  const bits = Math.log2(quantityBytes(clusterSize));
  if (!Number.isInteger(bits) || bits < 9 || bits > 21)
    yield { field: 'spec.image.clusterSize', message: 'must be a power of two from 512 to 2Mi, such as 64Ki (64K is 64000)' };
  if (version === 2 && refcountBits !== 16) yield { field: 'spec.image.refcountBits', message: 'must be 16 in images of version 2' };
}

function* snapshotErrors({ source, snapshot }: DiskExportSpec): Generator<FieldError> {
  if (snapshot?.className !== undefined && source.persistentVolumeClaim === undefined)
    yield {
      field: 'spec.snapshot.className',
      message: 'is only for a persistentVolumeClaim; for a virtual machine KubeVirt chooses the class',
    };
}

/** Errors in disks, image and snapshot that the schema accepts. Tables of kinds have those of other fields. */
export function* specErrors(spec: DiskExportSpec): Generator<FieldError> {
  yield* diskErrors(spec.source.disks ?? []);
  yield* imageErrors(spec.image);
  yield* snapshotErrors(spec);
}

const IMMUTABLE = [
  ...(['source', 'snapshot', 'image', 'destination', 'receipt', 'incremental'] as const),
  ...(['checksum', 'backoffLimit', 'activeDeadlineSeconds'] as const),
];

/** Sorts the lists of a source: for the API server the disks are a map by path, and the volumes are a set. */
function comparable(spec: DiskExportSpec, name: (typeof IMMUTABLE)[number]): unknown {
  if (name !== 'source') return spec[name];
  const { disks, virtualMachine } = spec.source;
  return {
    ...spec.source,
    disks: disks?.toSorted((a, b) => (a.path < b.path ? -1 : 1)),
    virtualMachine: virtualMachine === undefined ? undefined : { ...virtualMachine, volumes: virtualMachine.volumes?.toSorted() },
  };
}

/** Yields the errors of an update from `old` to `spec`. */
export function* updateErrors(old: DiskExportSpec, spec: DiskExportSpec): Generator<FieldError> {
  for (const name of IMMUTABLE)
    if (!isDeepStrictEqual(comparable(old, name), comparable(spec, name)))
      yield { field: `spec.${name}`, message: 'cannot be changed; create another DiskExport' };
  if (old.cancel && !spec.cancel) yield { field: 'spec.cancel', message: 'what was cancelled stays cancelled; create another DiskExport' };
}

type Metadata = DiskExport['metadata'];

/** RFC 1123 */
const LABEL = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
const SUBDOMAIN = new RegExp(`^${LABEL}([.]${LABEL})*$`);
const DNS_LABEL = new RegExp(`^${LABEL}$`);

/** Fields that the API server and kubectl write. They are accepted and ignored. */
const OTHERS = new Set([
  ...['creationTimestamp', 'deletionGracePeriodSeconds', 'deletionTimestamp', 'finalizers', 'generateName', 'managedFields'],
  ...['ownerReferences', 'resourceVersion', 'selfLink'],
]);

type Check = (value: unknown) => string | undefined;

const isStringMap: Check = (value) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'must be an object';
  const [wrong] = Object.entries(value).find(([, entry]) => typeof entry !== 'string') ?? [];
  return wrong === undefined ? undefined : `must hold text only, and ${JSON.stringify(wrong)} is none`;
};

function isName(pattern: RegExp, longest: number): Check {
  return (value) =>
    typeof value === 'string' && value.length <= longest && pattern.test(value)
      ? undefined
      : `must be at most ${longest} lower case letters, digits, hyphens${pattern === SUBDOMAIN ? ' and dots' : ''}`;
}

const CHECKS: Readonly<Record<string, Check>> = {
  name: isName(SUBDOMAIN, 253),
  namespace: isName(DNS_LABEL, 63),
  uid: (value) => (typeof value === 'string' && /^[!-~]{1,128}$/.test(value) ? undefined : 'must be text without spaces'),
  generation: (value) => (Number.isSafeInteger(value) && (value as number) >= 0 ? undefined : 'must be a whole number'),
  labels: isStringMap,
  annotations: isStringMap,
};

/** Yields the errors of metadata before defaults are filled in. */
export function* metadataErrors(metadata: Readonly<Record<string, unknown>>): Generator<FieldError> {
  if (metadata.name === undefined) {
    const advice = metadata.generateName === undefined ? '' : '; only the API server (kubectl create) and disklift export generate names';
    yield { field: 'metadata.name', message: `is required${advice}` };
  }
  for (const [name, value] of Object.entries(metadata)) {
    const check = Object.hasOwn(CHECKS, name) ? CHECKS[name] : undefined;
    if (check === undefined && !OTHERS.has(name)) yield { field: `metadata.${name}`, message: 'is no known field' };
    const message = value === null ? undefined : check?.(value);
    if (message !== undefined) yield { field: `metadata.${name}`, message };
  }
}

/** Fills in the namespace and the UID. @param metadata without errors */
export function completeMetadata(metadata: Readonly<Record<string, unknown>>): Metadata {
  const given = Object.fromEntries(Object.entries(metadata).filter(([, value]) => value !== null)) as Partial<Metadata> & { name: string };
  const { name, namespace = 'default' } = given;
  return { ...given, namespace, uid: given.uid ?? derivedUid(namespace, name) };
}

/** The same UID for the same namespace and name on every machine (RFC 9562, section 5.5, version 5). */
function derivedUid(namespace: string, name: string): string {
  const hash = createHash('sha1').update(`diskexports.disklift.dev/${namespace}/${name}`).digest();
  hash[6] = ((hash[6] as number) & 0x0f) | 0x50;
  hash[8] = ((hash[8] as number) & 0x3f) | 0x80;
  return hash.toString('hex', 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
