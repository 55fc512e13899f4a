/** What an S3 server keeps: objects, and uploads that are still open. */

import { createHash } from 'node:crypto';

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
  leastPartBytes?: number;
  pageParts?: number;
  mostParts?: number;
  opaqueTags?: boolean;
  clockAheadMs?: number;
}

export class S3FakeStore {
  readonly objects = new Map<string, StoredObject>();
  readonly uploads = new Map<string, OpenUpload>();
  readonly rules: Required<StoreRules>;
  private lastId = 0;

  constructor({
    leastPartBytes = 5 * 1024 * 1024,
    pageParts = 1000,
    mostParts = 10_000,
    opaqueTags = false,
    clockAheadMs = 0,
  }: StoreRules) {
    this.rules = { leastPartBytes, pageParts, mostParts, opaqueTags, clockAheadMs };
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
    const md5 = createHash('md5').update(body);
    return this.rules.opaqueTags ? `"opaque-${md5.digest('base64url')}"` : `"${md5.digest('hex')}"`;
  }

  /** @returns the error that the parts of a CompleteMultipartUpload deserve, or the object */
  complete(upload: OpenUpload, listed: { number: number; etag: string }[]): string | StoredObject {
    if (listed.length === 0) return 'MalformedXML';
    if (listed.some(({ number }, index) => index > 0 && number <= (listed[index - 1]?.number ?? 0))) return 'InvalidPartOrder';
    const bodies: Buffer[] = [];
    for (const { number, etag } of listed) {
      const part = upload.parts.get(number);
      if (part === undefined || part.etag !== etag) return 'InvalidPart';
      bodies.push(part.body);
    }
    const last = bodies.length - 1;
    if (bodies.some(({ length }, index) => index < last && length < this.rules.leastPartBytes)) return 'EntityTooSmall';
    // As Cloudflare R2 has it.
    const [first] = bodies as [Buffer];
    if (bodies.some(({ length }, index) => (index < last ? length !== first.length : length > first.length))) return 'InvalidPart';
    const md5s = createHash('md5');
    for (const body of bodies) md5s.update(createHash('md5').update(body).digest());
    const etag = this.rules.opaqueTags ? `"opaque-${listed.length}"` : `"${md5s.digest('hex')}-${listed.length}"`;
    return { body: Buffer.concat(bodies), etag, metadata: upload.metadata };
  }
}
