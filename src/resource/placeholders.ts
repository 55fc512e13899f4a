/** The placeholders in a destination's URL or key, and their values. */

import path from 'node:path';
import { timestamp } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import { readHttpUrl } from '../common/http-url.ts';
import type { DiskExport, ExportSource } from './disk-export.ts';
import { isManifest, sourceObject } from './source-kinds.ts';

export interface PlaceholderValues {
  namespace: string;
  name: string;
  uid: string;
  /** The snapshot's name where the source is a snapshot; the volume's name where it is a virtual machine. */
  claim: string;
  /** Absent where the source is no virtual machine. */
  vm?: string;
  /** When the DiskExport was created, in UTC: 2026-11-30. The same in every attempt and after a restart. */
  date?: string;
  /** The same moment: 20261130T014201Z. */
  timestamp?: string;
  /** Time for which a schedule made the DiskExport, written as `timestamp`; without a schedule, its creation. */
  scheduledTime?: string;
  /** The disk's file name without its extension; `disk` for a volume in Block mode; the name of a VM's volume. */
  disk: string;
}

/** All placeholders, for messages. */
export const PLACEHOLDERS = '{namespace}, {name}, {uid}, {claim}, {vm}, {date}, {timestamp}, {scheduledTime} and {disk}';

/** A schedule writes the time for which it creates a DiskExport to this annotation, in RFC 3339. */
export const SCHEDULED_TIME = 'disklift.dev/scheduled-time';

/** @param diskPath path in the status */
export function placeholderValues({ metadata, spec }: Pick<DiskExport, 'metadata' | 'spec'>, diskPath: string): PlaceholderValues {
  const { namespace, name, uid } = metadata;
  return { namespace, name, uid, ...sourceValues(spec.source, diskPath), ...timeValues(metadata) };
}

/** The path of a VM's disk is the volume's name, followed by the file's path if the volume has several disks. */
function sourceValues(source: ExportSource, diskPath: string): Pick<PlaceholderValues, 'claim' | 'vm' | 'disk'> {
  const { kind, name } = sourceObject(source);
  if (kind !== 'VirtualMachine' && kind !== 'VirtualMachineBackup') return { claim: name, disk: diskName(diskPath) };
  const [volume = '', ...file] = isManifest(source, diskPath) ? ['vm'] : diskPath.split('/');
  const vm = kind === 'VirtualMachine' ? { vm: name } : {};
  return { claim: volume, ...vm, disk: file.length === 0 ? diskName(volume) : `${volume}-${diskName(file.join('/'))}` };
}

/** A request that an earlier version recorded has no creation time, and no placeholder that needs one. */
function timeValues({
  creationTimestamp = '',
  annotations = {},
}: DiskExport['metadata']): Pick<PlaceholderValues, 'date' | 'timestamp' | 'scheduledTime'> {
  const created = compactTime(creationTimestamp);
  const scheduledTime = compactTime(annotations[SCHEDULED_TIME] ?? creationTimestamp);
  return {
    ...(created === undefined ? {} : { date: timestamp(Date.parse(creationTimestamp)).replace(/T.*/, ''), timestamp: created }),
    ...(scheduledTime === undefined ? {} : { scheduledTime }),
  };
}

/** @returns the time in UTC as 20261130T014201Z; undefined for a text that is not in the notation of RFC 3339 */
function compactTime(text: string): string | undefined {
  const timeMs = /^\d{4}-\d\d-\d\dT/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(timeMs) ? undefined : timestamp(timeMs).replaceAll(/[-:]/g, '');
}

/** Why a placeholder has no value in a request. */
const WITHOUT_VALUE: Readonly<Record<string, string>> = {
  vm: 'is only for a virtualMachine in spec.source',
  date: 'needs the time at which the DiskExport was created',
  timestamp: 'needs the time at which the DiskExport was created',
  scheduledTime: `needs a time in RFC 3339 in the annotation ${SCHEDULED_TIME}`,
};

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
    if (value !== undefined) return encode(value);
    if (name !== undefined && Object.hasOwn(WITHOUT_VALUE, name))
      throw new DiskliftError('InvalidRequest', `{${name}} in the destination ${WITHOUT_VALUE[name]}`);
    throw new DiskliftError('InvalidRequest', `the destination has braces other than ${PLACEHOLDERS}`);
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
