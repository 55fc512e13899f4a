/**
 * The receipt beside an image: what the image is, of which disk, and what a later image may count its changes from.
 * Pure. A receipt comes from a destination, so the parser trusts no field, and keeps out what it does not know.
 */

import type { Schema } from '../resource/schema.ts';
import { type Parsed, parseFields } from './parse-fields.ts';

export interface ImageReceipt {
  image: ImageFacts;
  disk: DiskIdentity;
  export: ExportIdentity;
  /** When the receipt was written, in RFC 3339. */
  time: string;
  /** Time that the image shows, where a snapshot was taken. */
  snapshotTime?: string;
  consistency?: string;
  type: 'Full' | 'Incremental';
  /** The same word as `typeReason` in the status. Absent where the request asks for no incremental image. */
  reason?: string;
  /** Bytes of the disk that an incremental image holds. */
  changedBytes?: number;
  readBytes: number;
  /** Present in the receipt of an incremental image. */
  base?: BaseReference;
  points: ReceiptPoints;
}

interface ImageFacts {
  /** Key in the bucket, or path of the HTTP server. */
  place: string;
  sizeBytes: number;
  /** In hex. Absent where the request asks for no checksum; such an image is no base. */
  sha256?: string;
  etag?: string;
  proof: string;
  virtualSizeBytes: number;
  /** Clusters that the image holds as data. */
  dataClusters: number;
  layout: 'Converted' | 'Verbatim';
  options: { clusterSizeBytes: number; version: number; refcountBits: number };
}

/** Names one disk through all its exports. */
export interface DiskIdentity {
  namespace: string;
  source: { kind: string; name: string };
  /** Path in the status. */
  path: string;
}

export interface ExportIdentity {
  name: string;
  uid: string;
  /** Creation of the DiskExport: requests in files have the same UID whenever they have the same name. */
  created?: string;
}

/** An image at the same destination. */
export interface BaseReference {
  place: string;
  /** In hex. */
  sha256: string;
  sizeBytes: number;
  virtualSizeBytes: number;
}

/** A following image may count its changes from these points. */
export interface ReceiptPoints {
  /** A file with the hash of each block of the disk. */
  blocks?: { place: string; sha256: string; sizeBytes: number };
  /** A snapshot that the CSI driver keeps. */
  snapshot?: { driver: string; handle: string; name: string; volume?: string | undefined };
  /** A checkpoint of KubeVirt, and the claim of the volume. */
  checkpoint?: { vm: string; vmUid: string; name: string; claim?: string | undefined };
}

const FORMAT = 'disklift-receipt/1';

/** Limit of a receipt; a real one has about 1.5 KB. */
export const MAX_RECEIPT_BYTES = 65_536;

const count: Schema = { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER };
const text: Schema = { type: 'string', minLength: 1, maxLength: 1024, pattern: '^\\P{Cc}*$' };
const sha256: Schema = { type: 'string', pattern: '^[0-9a-f]{64}$' };
const word: Schema = { type: 'string', pattern: '^[A-Za-z]{1,64}$' };
const time: Schema = { type: 'string', maxLength: 64, pattern: '^\\d{4}-\\d\\d-\\d\\dT[\\d:.]+(Z|[+-]\\d\\d:\\d\\d)$' };

function record(properties: Readonly<Record<string, Schema>>, optional: readonly string[] = []): Schema {
  return { type: 'object', properties, required: Object.keys(properties).filter((name) => !optional.includes(name)) };
}

/** The disk of a receipt or of a tracker. */
export const DISK_SCHEMA: Schema = record({ namespace: text, source: record({ kind: word, name: text }), path: text });

/** A file at the destination with its SHA-256. */
const FILE = { place: text, sha256, sizeBytes: count };

const SCHEMA: Schema = record(
  {
    image: record(
      {
        place: text,
        sizeBytes: count,
        sha256,
        etag: text,
        proof: word,
        virtualSizeBytes: count,
        dataClusters: count,
        layout: { type: 'string', enum: ['Converted', 'Verbatim'] },
        options: record({ clusterSizeBytes: count, version: count, refcountBits: count }),
      },
      ['sha256', 'etag'],
    ),
    disk: DISK_SCHEMA,
    export: record({ name: text, uid: text, created: time }, ['created']),
    time,
    snapshotTime: time,
    consistency: word,
    type: { type: 'string', enum: ['Full', 'Incremental'] },
    reason: word,
    changedBytes: count,
    readBytes: count,
    base: record({ ...FILE, virtualSizeBytes: count }),
    points: record(
      {
        blocks: record(FILE),
        snapshot: record({ driver: text, handle: text, name: text, volume: text }, ['volume']),
        checkpoint: record({ vm: text, vmUid: text, name: text, claim: text }, ['claim']),
      },
      ['blocks', 'snapshot', 'checkpoint'],
    ),
  },
  ['snapshotTime', 'consistency', 'reason', 'changedBytes', 'base'],
);

/** @returns the receipt, or a sentence about what is wrong with it */
export function parseReceipt(bytes: Uint8Array): Parsed<ImageReceipt> {
  const parsed = parseFields<ImageReceipt>(bytes, { format: FORMAT, schema: SCHEMA });
  if ('problem' in parsed) return parsed;
  const { type, base } = parsed.value;
  if ((type === 'Incremental') !== (base !== undefined)) return { problem: 'base: must be there for an incremental image, and only then' };
  return parsed;
}

export function receiptBytes(receipt: ImageReceipt): Uint8Array {
  return Buffer.from(`${JSON.stringify({ format: FORMAT, ...receipt }, undefined, 2)}\n`);
}
