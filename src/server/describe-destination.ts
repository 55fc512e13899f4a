/** Where an export goes, as it may be shown: without anything that could be a secret. */

import { printable } from '../common/printable.ts';
import type { DiskExport } from '../resource/disk-export.ts';

export interface DestinationView {
  kind: 'HTTP' | 'S3' | 'TCP' | 'unknown';
  /** Without placeholders, but for those whose values are not known. */
  address: string;
}

/** By the names of the placeholders. */
export type PlaceholderTexts = Readonly<Record<string, string | undefined>>;

type Destination = DiskExport['spec']['destination'];

/** A new kind of destination in the resource fails to compile until it has a row here. */
const DESCRIBE: { [Key in keyof Required<Destination>]: (spec: NonNullable<Destination[Key]>) => DestinationView } = {
  http: ({ url, urlSecretRef }) => ({
    kind: 'HTTP',
    address: url === undefined ? `the URL in Secret ${urlSecretRef?.name ?? ''}` : publicAddress(url),
  }),
  s3: ({ bucket, key, endpoint }) => ({ kind: 'S3', address: `s3://${bucket}/${key} at ${publicAddress(endpoint)}` }),
  tcp: ({ host, port }) => ({ kind: 'TCP', address: `${host}:${port}` }),
};

export function describeDestination(destination: Destination, placeholders: PlaceholderTexts = {}): DestinationView {
  for (const [key, describe] of Object.entries(DESCRIBE)) {
    const spec = destination[key as keyof Destination];
    if (spec === undefined) continue;
    const { kind, address } = (describe as (spec: object) => DestinationView)(spec);
    return { kind, address: printable(expanded(address, placeholders)) };
  }
  return { kind: 'unknown', address: 'a kind of destination that this version of disklift does not know' };
}

function expanded(address: string, placeholders: PlaceholderTexts): string {
  return address.replace(/\{(\w+)\}/g, (whole, name: string) =>
    Object.hasOwn(placeholders, name) ? (placeholders[name] ?? whole) : whole,
  );
}

/** Without user, password, query and fragment. */
function publicAddress(text: string | undefined): string {
  if (text === undefined) return 'AWS';
  const url = URL.parse(text);
  if (url === null) return 'an address that cannot be read';
  // Placeholders are no part of what a URL may hold as it is.
  return `${url.origin}${url.pathname.replaceAll('%7B', '{').replaceAll('%7D', '}')}`;
}
