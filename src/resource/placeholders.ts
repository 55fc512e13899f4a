/** The placeholders in a destination's URL or key, and their values. */

import path from 'node:path';
import { timestamp } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { readHttpUrl } from '../common/http-url.ts';
import type { DiskExport } from './disk-export.ts';

export interface PlaceholderValues {
  namespace: string;
  name: string;
  uid: string;
  claim: string;
  /** When the DiskExport was created, in UTC: 2026-11-30. The same in every attempt and after a restart. */
  date?: string;
  /** The same moment: 20261130T014201Z. */
  timestamp?: string;
  /** The disk's file name without its extension; `disk` for a volume in Block mode. */
  disk: string;
}

/** @param diskPath relative to the volume */
export function placeholderValues({ metadata, spec }: Pick<DiskExport, 'metadata' | 'spec'>, diskPath: string): PlaceholderValues {
  const { namespace, name, uid, creationTimestamp } = metadata;
  const claim = spec.source.persistentVolumeClaim.claimName;
  return { namespace, name, uid, claim, ...creationOf(creationTimestamp), disk: diskName(diskPath) };
}

/** A request that an earlier version recorded has no creation time, and no placeholder that needs one. */
function creationOf(creationTimestamp: string | undefined): Pick<PlaceholderValues, 'date' | 'timestamp'> {
  const createdMs = Date.parse(creationTimestamp ?? '');
  if (Number.isNaN(createdMs)) return {};
  const created = timestamp(createdMs);
  return { date: created.slice(0, created.indexOf('T')), timestamp: created.replaceAll(/[-:]/g, '') };
}

function diskName(diskPath: string): string {
  // A volume in Block mode has no file name.
  if (diskPath === '.') return 'disk';
  const { base, name } = path.posix.parse(diskPath);
  // The name of `...` without its extension would be `..`, which leads out of the destination's directory.
  return ['.', '..'].includes(name) ? base : name;
}

/**
 * Fills in the key of an object, or any text in which placeholders may be anywhere. Values are percent-encoded but for
 * the unreserved characters of RFC 3986, section 2.3.
 * @throws DiskliftError `InvalidRequest` for braces that are no placeholder
 */
export function expandPlaceholders(template: string, values: PlaceholderValues): string {
  return template.replace(/\{([^{}]*)\}|[{}]/g, (_, name: string | undefined) => {
    const value = name !== undefined && Object.hasOwn(values, name) ? values[name as keyof PlaceholderValues] : undefined;
    if (value === undefined)
      throw new DiskliftError(
        'InvalidRequest',
        'the destination has braces other than {namespace}, {name}, {uid}, {claim}, {date}, {timestamp} and {disk}',
      );
    return encode(value);
  });
}

/**
 * Fills in a URL of a request or of a Secret. No error message contains any of it.
 * @throws DiskliftError `InvalidRequest` also for placeholders outside of its path, and for what is no URL of http or
 * https
 */
export function expandUrl(template: string, values: PlaceholderValues): string {
  const {
    origin = '',
    path: urlPath = '',
    rest = '',
  } = /^(?<origin>[a-z]+:\/\/[^/?#]*)(?<path>[^?#]*)(?<rest>.*)$/is.exec(template)?.groups ?? {};
  if (/[{}]/.test(origin + rest)) throw new DiskliftError('InvalidRequest', "the destination's URL may have placeholders in its path only");
  const reading = readHttpUrl(`${origin}${expandPlaceholders(urlPath, values)}${rest}`);
  if ('problem' in reading) throw new DiskliftError('InvalidRequest', `the destination's URL ${reading.problem}`);
  return reading.url.href;
}

/** encodeURIComponent leaves a few characters alone that RFC 3986 reserves. */
function encode(value: string): string {
  if (!value.isWellFormed())
    throw new DiskliftError('InvalidRequest', `${JSON.stringify(value)} has no place in a destination: it is not text`);
  return encodeURIComponent(value).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}

export interface ExpandedDestination {
  /** Path of the disk on the volume. */
  disk: string;
  destination: string;
}

/** @throws DiskliftError `InvalidRequest` when two disks would go to the same place */
export function requireDistinct(expanded: readonly ExpandedDestination[]): void {
  const disks = new Map<string, string>();
  for (const { disk, destination } of expanded) {
    const other = disks.get(destination);
    if (other !== undefined)
      throw new DiskliftError(
        'InvalidRequest',
        `${JSON.stringify(other)} and ${JSON.stringify(disk)} would go to the same place: tell them apart by {disk} in the destination`,
      );
    disks.set(destination, disk);
  }
}
