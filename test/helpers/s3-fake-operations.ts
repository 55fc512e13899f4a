/** The operations of S3 that an upload needs, on a store. "Actions" in the API reference of Amazon S3. */

import type http from 'node:http';
import { crc32 } from 'node:zlib';
import type { OpenUpload, S3FakeStore, StoredObject } from './s3-fake-store.ts';

export type Operation =
  | 'PutObject'
  | 'HeadObject'
  | 'GetObject'
  | 'CreateMultipartUpload'
  | 'UploadPart'
  | 'ListParts'
  | 'ListMultipartUploads'
  | 'CompleteMultipartUpload'
  | 'AbortMultipartUpload';

export interface S3Answer {
  status: number;
  headers?: http.OutgoingHttpHeaders;
  text?: string;
  /** Body in bytes, instead of text. */
  bytes?: Buffer;
}

interface Asked {
  operation: Operation;
  key: string;
  url: URL;
  body: Buffer;
  headers: http.IncomingHttpHeaders;
}

const XML = '<?xml version="1.0" encoding="UTF-8"?>';

export function s3Failure(status: number, code: string, message = `What ${code} means`): S3Answer {
  const text = `${XML}<Error><Code>${code}</Code><Message>${message}</Message><RequestId>1</RequestId></Error>`;
  return { status, headers: { 'Content-Type': 'application/xml' }, text };
}

export function answerTo(asked: Asked, store: S3FakeStore): S3Answer {
  const { operation, key, url, body, headers } = asked;
  const refusal = refusalOfCondition(asked, store);
  if (refusal !== undefined) return refusal;
  if (operation === 'PutObject') {
    const etag = store.tagOf(body);
    store.objects.set(key, { body: Buffer.from(body), etag, metadata: metadataOf(headers) });
    return { status: 200, headers: { ETag: etag, ...store.rules.encryption, ...checksumOf(body, headers, store) } };
  }
  if (operation === 'HeadObject') {
    const object = store.objects.get(key);
    if (object === undefined) return { status: 404 };
    const facts = Object.entries(object.metadata).map(([name, value]) => [`x-amz-meta-${name}`, value]);
    return { status: 200, headers: { ...Object.fromEntries(facts), ETag: object.etag, 'Content-Length': object.body.length } };
  }
  if (operation === 'GetObject') return partOf(store.objects.get(key), store.rules.ignoresRanges ? undefined : headers.range);
  if (operation === 'CreateMultipartUpload') {
    const id = store.open({ key, metadata: metadataOf(headers) });
    return xml(`<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
  }
  if (operation === 'ListMultipartUploads') return uploadsOf(store, url.searchParams.get('prefix') ?? '');
  const uploadId = url.searchParams.get('uploadId') ?? '';
  const upload = store.uploads.get(uploadId);
  if (upload === undefined || upload.key !== key) return s3Failure(404, 'NoSuchUpload');
  if (operation === 'UploadPart') {
    const etag = store.tagOf(body);
    const { mostParts } = store.rules;
    const number = Number(url.searchParams.get('partNumber'));
    if (number > mostParts)
      return s3Failure(400, 'InvalidArgument', `Part number must be an integer between 1 and ${mostParts}, inclusive`);
    upload.parts.set(number, { body: Buffer.from(body), etag });
    return { status: 200, headers: { ETag: etag, ...store.rules.encryption, ...checksumOf(body, headers, store) } };
  }
  if (operation === 'ListParts') return listOf(upload, Number(url.searchParams.get('part-number-marker') ?? 0), store.rules.pageParts);
  if (operation === 'AbortMultipartUpload') {
    store.uploads.delete(uploadId);
    return { status: 204 };
  }
  return complete(asked, { store, uploadId, upload });
}

/** "Conditional writes" in Amazon's guide; a refused Complete leaves the upload unchanged. */
function refusalOfCondition({ key, headers }: Asked, { objects, rules }: S3FakeStore): S3Answer | undefined {
  if (headers['if-none-match'] === undefined || rules.ifNoneMatch === 'ignored') return undefined;
  if (rules.ifNoneMatch === 'refused')
    return s3Failure(501, 'NotImplemented', 'A header you provided implies functionality that is not implemented');
  return objects.has(key) ? s3Failure(412, 'PreconditionFailed') : undefined;
}

function checksumOf(body: Buffer, headers: http.IncomingHttpHeaders, { rules }: S3FakeStore): http.OutgoingHttpHeaders {
  if (headers['x-amz-checksum-crc32'] === undefined && !rules.volunteersCrc32) return {};
  const value = Buffer.alloc(4);
  value.writeUInt32BE(crc32(body));
  return { 'x-amz-checksum-crc32': value.toString('base64') };
}

/** No test requests a range that the object does not have in full. */
function partOf(object: StoredObject | undefined, range: string | undefined): S3Answer {
  if (object === undefined) return s3Failure(404, 'NoSuchKey');
  const { body, etag } = object;
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
  if (first === undefined) return { status: 200, headers: { ETag: etag }, bytes: body };
  const headers = { ETag: etag, 'Content-Range': `bytes ${first}-${last}/${body.length}` };
  return { status: 206, headers, bytes: body.subarray(Number(first), Number(last) + 1) };
}

function complete(
  { key, body }: Asked,
  { store, uploadId, upload }: { store: S3FakeStore; uploadId: string; upload: OpenUpload },
): S3Answer {
  const listed = [...body.toString().matchAll(/<Part>(.*?)<\/Part>/gs)].map(([, part = '']) => ({
    number: Number(/<PartNumber>(\d+)</.exec(part)?.[1]),
    etag: (/<ETag>(.*?)</.exec(part)?.[1] ?? '').replaceAll('&quot;', '"'),
  }));
  const object = store.complete(upload, listed);
  if (typeof object === 'string') return s3Failure(400, object);
  store.objects.set(key, object);
  store.uploads.delete(uploadId);
  return xml(`<CompleteMultipartUploadResult><Key>${key}</Key><ETag>${escapeXml(object.etag)}</ETag></CompleteMultipartUploadResult>`);
}

function listOf({ parts }: OpenUpload, marker: number, pageParts: number): S3Answer {
  const rest = [...parts].filter(([number]) => number > marker).sort(([a], [b]) => a - b);
  const page = rest.slice(0, pageParts);
  const items = page.map(
    ([number, { body, etag }]) =>
      `<Part><PartNumber>${number}</PartNumber><ETag>${escapeXml(etag)}</ETag><Size>${body.length}</Size></Part>`,
  );
  const next = rest.length > page.length ? `<NextPartNumberMarker>${page.at(-1)?.[0]}</NextPartNumberMarker>` : '';
  return xml(`<ListPartsResult><IsTruncated>${next !== ''}</IsTruncated>${next}${items.join('')}</ListPartsResult>`);
}

function uploadsOf({ uploads }: S3FakeStore, prefix: string): S3Answer {
  const items = [...uploads]
    .filter(([, { key }]) => key.startsWith(prefix))
    .map(([id, { key, madeMs }]) => {
      const seconds = new Date(Math.floor(madeMs / 1000) * 1000).toISOString();
      return `<Upload><Key>${key}</Key><UploadId>${id}</UploadId><Initiated>${seconds}</Initiated></Upload>`;
    });
  return xml(`<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>${items.join('')}</ListMultipartUploadsResult>`);
}

function metadataOf(headers: http.IncomingHttpHeaders): Record<string, string> {
  const own = Object.entries(headers).filter(([name]) => name.startsWith('x-amz-meta-'));
  return Object.fromEntries(own.map(([name, value]) => [name.slice('x-amz-meta-'.length), `${value}`]));
}

function xml(text: string): S3Answer {
  return { status: 200, headers: { 'Content-Type': 'application/xml' }, text: XML + text };
}

function escapeXml(text: string): string {
  return text.replaceAll('"', '&quot;');
}
