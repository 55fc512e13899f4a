/** Where an export goes, as it may be shown: without anything that could be a secret. */

import type { DiskExport } from '../requests/disk-export.ts';

export interface DestinationView {
  kind: 'HTTP' | 'S3' | 'TCP';
  /** With placeholders as they stand in the request. */
  address: string;
}

export function describeDestination({ http, s3, tcp }: DiskExport['spec']['destination']): DestinationView {
  if (http !== undefined) {
    const { url, urlSecretRef } = http;
    return { kind: 'HTTP', address: url === undefined ? `in Secret ${urlSecretRef?.name ?? ''}` : publicAddress(url) };
  }
  if (s3 !== undefined) return { kind: 'S3', address: `s3://${s3.bucket}/${s3.key} at ${publicAddress(s3.endpoint)}` };
  return { kind: 'TCP', address: `${tcp?.host}:${tcp?.port}` };
}

/** Without user, password, query and fragment. */
function publicAddress(text: string | undefined): string {
  if (text === undefined) return 'AWS';
  const url = URL.parse(text);
  if (url === null) return 'an address that cannot be read';
  // Placeholders are no part of what a URL may hold as it is.
  return `${url.origin}${url.pathname.replaceAll('%7B', '{').replaceAll('%7D', '}')}`;
}
