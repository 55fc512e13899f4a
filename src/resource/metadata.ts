/** The metadata of a request: what the API server would check of it, or fill in. */

import { createHash } from 'node:crypto';
import type { DiskExport } from './disk-export.ts';
import type { FieldError } from './rules.ts';

type Metadata = DiskExport['metadata'];

/** RFC 1123 */
const LABEL = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
const SUBDOMAIN = new RegExp(`^${LABEL}([.]${LABEL})*$`);
const DNS_LABEL = new RegExp(`^${LABEL}$`);

/** What the API server and kubectl write there and nobody here needs. */
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

/** What is wrong with metadata in which nothing has been filled in yet. */
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

/** @param metadata in which nothing is wrong */
export function completeMetadata(metadata: Readonly<Record<string, unknown>>): Metadata {
  const given = Object.fromEntries(Object.entries(metadata).filter(([, value]) => value !== null)) as Partial<Metadata> & { name: string };
  const { name, namespace = 'default' } = given;
  return { ...given, namespace, uid: given.uid ?? derivedUid(namespace, name) };
}

/** The same for the same namespace and name on every machine (as version 5 of RFC 9562, section 5.5, makes them). */
function derivedUid(namespace: string, name: string): string {
  const hash = createHash('sha1').update(`diskexports.disklift.dev/${namespace}/${name}`).digest();
  hash[6] = ((hash[6] as number) & 0x0f) | 0x50;
  hash[8] = ((hash[8] as number) & 0x3f) | 0x80;
  return hash.toString('hex', 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
