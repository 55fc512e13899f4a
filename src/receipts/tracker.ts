/** The tracker: a small file at the destination that names the newest image of one disk. Pure. */

import type { Schema } from '../resource/schema.ts';
import { type Parsed, parseFields } from './parse-fields.ts';
import { DISK_SCHEMA, type DiskIdentity } from './receipt.ts';

export interface Tracker {
  /** The newest image. */
  image: { place: string; sha256: string };
  disk: DiskIdentity;
  /** When the tracker was written, in RFC 3339. */
  time: string;
}

const FORMAT = 'disklift-tracker/1';

/** Limit of a tracker; a real one has about 400 bytes. */
export const MAX_TRACKER_BYTES = 65_536;

const SCHEMA: Schema = {
  type: 'object',
  required: ['image', 'disk', 'time'],
  properties: {
    image: {
      type: 'object',
      required: ['place', 'sha256'],
      properties: {
        place: { type: 'string', minLength: 1, maxLength: 1024, pattern: '^\\P{Cc}*$' },
        sha256: { type: 'string', pattern: '^[0-9a-f]{64}$' },
      },
    },
    disk: DISK_SCHEMA,
    time: { type: 'string', maxLength: 64 },
  },
};

/** @returns the tracker, or a sentence about what is wrong with it */
export function parseTracker(bytes: Uint8Array): Parsed<Tracker> {
  return parseFields<Tracker>(bytes, { format: FORMAT, schema: SCHEMA });
}

export function trackerBytes(tracker: Tracker): Uint8Array {
  return Buffer.from(`${JSON.stringify({ format: FORMAT, ...tracker }, undefined, 2)}\n`);
}
