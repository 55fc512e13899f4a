/** The storage of an S3 server: objects, and uploads that are still open. */

import type http from 'node:http';
import { TAG_MAKERS, type TagKind } from './s3-fake-tags.ts';

export interface StoredObject {
  body: Buffer;
  etag: string;
  metadata: Record<string, string>;
}

export interface OpenUpload {
  key: string;
  metadata: Record<string, string>;
  parts: Map<number, { body: Buffer; etag: string }>;
  madeMs: number;
}

interface StoreRules {
  minPartBytes?: number;
  pageParts?: number;
  mostParts?: number;
  tags?: TagKind;
  clockAheadMs?: number;
  encryption?: http.OutgoingHttpHeaders;
  volunteersCrc32?: boolean;
  ignoresRanges?: boolean;
  /** How the server treats If-None-Match; honoured when left out. */
  ifNoneMatch?: 'honoured' | 'ignored' | 'refused';
}

export class S3FakeStore {
  readonly objects = new Map<string, StoredObject>();
  readonly uploads = new Map<string, OpenUpload>();
  readonly rules: Required<StoreRules>;
  private lastId = 0;

  constructor(rules: StoreRules) {
    const { minPartBytes = 5 * 1024 * 1024, pageParts = 1000, mostParts = 10_000, tags = 'amazon', clockAheadMs = 0 } = rules;
    this.rules = {
      minPartBytes,
      pageParts,
      mostParts,
      tags,
      clockAheadMs,
      encryption: {},
      volunteersCrc32: false,
      ignoresRanges: false,
      ifNoneMatch: 'honoured',
      ...rules,
    };
  }

  nowMs(): number {
    return Date.now() + this.rules.clockAheadMs;
  }

  open(upload: Omit<OpenUpload, 'parts' | 'madeMs'>): string {
    this.lastId += 1;
    const id = `upload-${this.lastId}`;
    this.uploads.set(id, { ...upload, parts: new Map(), madeMs: this.nowMs() });
    return id;
  }

  tagOf(body: Buffer): string {
    return `"${TAG_MAKERS[this.rules.tags].ofBytes(body)}"`;
  }

  /** @returns the object of a CompleteMultipartUpload, or the error if its parts are not valid */
  complete(upload: OpenUpload, listed: { number: number; etag: string }[]): string | StoredObject {
    if (listed.length === 0) return 'MalformedXML';
    if (listed.some(({ number }, index) => index > 0 && number <= (listed[index - 1]?.number ?? 0))) return 'InvalidPartOrder';
    const parts: { body: Buffer; etag: string }[] = [];
    for (const { number, etag } of listed) {
      const part = upload.parts.get(number);
      if (part === undefined || part.etag !== etag) return 'InvalidPart';
      parts.push(part);
    }
    const bodies = parts.map(({ body }) => body);
    const last = bodies.length - 1;
    if (bodies.some(({ length }, index) => index < last && length < this.rules.minPartBytes)) return 'EntityTooSmall';
    // As Cloudflare R2 has it.
    const [first] = bodies as [Buffer];
    if (bodies.some(({ length }, index) => (index < last ? length !== first.length : length > first.length))) return 'InvalidPart';
    const etag = `"${TAG_MAKERS[this.rules.tags].ofParts(parts)}"`;
    return { body: Buffer.concat(bodies), etag, metadata: upload.metadata };
  }
}
