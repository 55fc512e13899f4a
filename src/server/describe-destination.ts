/** Where an export goes, as it may be shown: without anything that could be a secret. */

import { printable } from '../common/text.ts';
import { type DestinationName, describeKind } from '../resource/destination-kinds.ts';
import type { DestinationSpec } from '../resource/disk-export.ts';

export interface DestinationView {
  kind: DestinationName | 'unknown';
  /** Without placeholders, but for those whose values are not known. */
  address: string;
}

/** By the names of the placeholders. */
export type PlaceholderTexts = Readonly<Record<string, string | undefined>>;

export function describeDestination(destination: DestinationSpec, placeholders: PlaceholderTexts = {}): DestinationView {
  const { kind, address } = describeKind(destination) ?? UNKNOWN;
  return { kind, address: printable(expanded(address, placeholders)) };
}

const UNKNOWN = { kind: 'unknown', address: 'a kind of destination that this version of disklift does not know' } as const;

function expanded(address: string, placeholders: PlaceholderTexts): string {
  return address.replace(/\{(\w+)\}/g, (whole, name: string) =>
    Object.hasOwn(placeholders, name) ? (placeholders[name] ?? whole) : whole,
  );
}
