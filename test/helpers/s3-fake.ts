/**
 * An S3 server that is strict about errors of clients, and misbehaves on request. It keeps all received data, so that a
 * test sees uploads that were left behind, and whether a complete object ever existed.
 */

import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { drip, flood, floodInterim } from './endless-answer.ts';
import { ALTERATIONS, type Alteration } from './s3-fake-alter.ts';
import { answerTo, type Operation, type S3Answer, s3Failure } from './s3-fake-operations.ts';
import { refusalOf } from './s3-fake-request.ts';
import { S3FakeStore } from './s3-fake-store.ts';
import type { TagKind } from './s3-fake-tags.ts';

export interface Quirk {
  operation: Operation;
  /** Only requests for the part of this number. */
  part?: number;
  /** How many requests of the operation it affects; all when left out. */
  times?: number;
  /** How many requests of the operation pass first. */
  after?: number;
  /**
   * The operation's fault. A status is an error instead of the operation; 'error in 200' is an error after a status of
   * 200. 'lost' carries out the operation and cuts the connection; 'cut' cuts the connection first. 'late' carries out
   * the operation some time after the cut, and opens an upload again that is gone by then; a PutObject comes behind the
   * next one. 'hang' never answers; 'hang after' carries out the operation and never answers. 'half' sends half of the
   * answer. 'flood' sends 100 MiB more behind it, 'flood refusal' as many with a 500, 'drip' a byte now and then for
   * ever; 'interim answers' sends nothing else. 'endless pages' marks every page as not the last. 'misnamed' answers
   * with another id of the upload, as after a flipped bit. An alteration alters the stored bytes.
   */
  does:
    | { status: number; code: string; message?: string; headers?: http.OutgoingHttpHeaders }
    | 'error in 200'
    | 'lost'
    | 'cut'
    | 'late'
    | 'late and altered'
    | 'hang'
    | 'hang after'
    | 'early answer'
    | 'half'
    | 'half and cut'
    | 'misnamed'
    | 'flood'
    | 'flood refusal'
    | 'drip'
    | 'half and drip'
    | 'endless pages'
    | 'interim answers'
    | Alteration;
}

export interface S3FakeOptions {
  /** Minimum size of a part that is not the last. */
  minPartBytes?: number;
  /** Parts in one page of ListParts. */
  pageParts?: number;
  /** Parts of one upload. */
  mostParts?: number;
  /** Amazon's tags when left out. */
  tags?: TagKind;
  /** Headers about encryption in the answers to uploads. */
  encryption?: http.OutgoingHttpHeaders;
  /** Answers a request for a range with the whole object. */
  ignoresRanges?: boolean;
  /** Default: honoured. */
  ifNoneMatch?: 'honoured' | 'ignored' | 'refused';
  /** Reports the CRC32 of the received bytes without a request. */
  volunteersCrc32?: boolean;
  /** How far the server's clock is ahead of ours. */
  clockAheadMs?: number;
  /** The error code that refuses requests signed with this access key. */
  refuseKey?: (accessKeyId: string) => string | undefined;
  /** Refuses requests that are not signed with this key. */
  secret?: string;
  tls?: https.ServerOptions;
}

interface S3Request {
  operation: Operation;
  key: string;
  partNumber?: number | undefined;
  headers: http.IncomingHttpHeaders;
}

export interface S3Fake extends AsyncDisposable {
  url: string;
  store: S3FakeStore;
  /** All requests, in the order in which their heads came. */
  requests: S3Request[];
  quirks: Quirk[];
  connectionCount(): number;
  /** The bytes of the longest flood so far. */
  floodBytes(): number;
  count(operation: Operation): number;
}

/** Delay of a quirk that answers late. */
export const LATE_MS = 100;

const MAX_WAITS = 1000;

/** The only bucket. */
export const BUCKET = 'images';

export async function startS3Fake(options: S3FakeOptions = {}): Promise<S3Fake> {
  const requests: S3Request[] = [];
  const quirks: Quirk[] = [];
  const store = new S3FakeStore(options);
  let connections = 0;
  let floodBytes = 0;
  const countFlood = (sentBytes: number) => {
    floodBytes = Math.max(floodBytes, sentBytes);
  };

  function quirkFor(operation: Operation, part: number | undefined): Quirk['does'] | undefined {
    for (const quirk of quirks) {
      if (quirk.operation !== operation || (quirk.part ?? part) !== part) continue;
      if ((quirk.after ?? 0) > 0) {
        quirk.after = (quirk.after ?? 0) - 1;
        continue;
      }
      if (quirk.times === 0) continue;
      if (quirk.times !== undefined) quirk.times -= 1;
      return quirk.does;
    }
    return undefined;
  }

  async function serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://fake');
    const operation = operationOf(request.method, url.searchParams);
    const [, bucket, ...rest] = url.pathname.split('/');
    const key = decodeURIComponent(rest.join('/'));
    const partNumber = url.searchParams.has('partNumber') ? Number(url.searchParams.get('partNumber')) : undefined;
    requests.push({ operation, key, partNumber, headers: request.headers });
    const does = quirkFor(operation, partNumber);
    if (does === 'cut') return void request.socket.destroy();
    if (does === 'early answer') return void request.socket.write('HTTP/1.1 200 OK\r\nETag: "early"\r\nContent-Length: 0\r\n\r\n');
    const body = await bodyOf(request);
    // The body was cut: the operation is not carried out.
    if (body === undefined) return;
    if (does === 'hang') return;
    if (does === 'interim answers') return floodInterim(request.socket);
    if (does === 'flood refusal') return flood(response.writeHead(500), countFlood);
    const send = ({ status, headers, text = '', bytes = Buffer.from(text) }: S3Answer) => {
      const facts = { Date: new Date(store.nowMs()).toUTCString(), 'Content-Length': bytes.length };
      response.writeHead(status, { ...facts, ...headers }).end(request.method === 'HEAD' ? '' : bytes);
    };
    if (typeof does === 'object')
      return send({ ...s3Failure(does.status, does.code, does.message), ...(does.headers && { headers: does.headers }) });
    if (does === 'error in 200') return send({ ...s3Failure(500, 'InternalError'), status: 200 });
    const problem = refusalOf(request, body, options);
    if (problem !== undefined) return send(s3Failure(problem.status, problem.code));
    if (bucket !== BUCKET) return send(s3Failure(404, 'NoSuchBucket'));
    const alter = typeof does === 'string' && does in ALTERATIONS ? ALTERATIONS[does as Alteration] : undefined;
    const isUpload = operation === 'UploadPart' || operation === 'PutObject';
    const asked = { operation, key, url, body: isUpload && alter !== undefined ? alter(body) : body, headers: request.headers };
    if (does === 'late' || does === 'late and altered') {
      const uploadId = url.searchParams.get('uploadId') ?? '';
      const upload = store.uploads.get(uploadId);
      const stored = store.objects.get(key);
      request.socket.destroy();
      if (operation === 'PutObject')
        for (let wait = 0; wait < MAX_WAITS && store.objects.get(key) === stored; wait += 1) await sleep(LATE_MS / 10);
      await sleep(LATE_MS);
      if (upload !== undefined && !store.uploads.has(uploadId)) store.uploads.set(uploadId, { ...upload, parts: new Map() });
      return void answerTo(does === 'late' ? asked : { ...asked, body: ALTERATIONS['flips a bit'](body) }, store);
    }
    const answer = answerTo(asked, store);
    const object = store.objects.get(key);
    if (operation === 'CompleteMultipartUpload' && alter !== undefined && object !== undefined) object.body = alter(object.body);
    if (does === 'endless pages') {
      const next = Number(url.searchParams.get('part-number-marker') ?? 0) + 1;
      const page = `<IsTruncated>true</IsTruncated><NextPartNumberMarker>${next}</NextPartNumberMarker>`;
      return send({ ...answer, text: (answer.text ?? '').replace('<IsTruncated>false</IsTruncated>', page) });
    }
    if (does === 'misnamed') return send({ ...answer, text: (answer.text ?? '').replace('>upload-', '>uploae-') });
    if (does === 'lost') return void request.socket.destroy();
    if (does === 'hang after') return;
    if (does === 'flood' || does === 'drip' || does === 'half and drip') {
      const { bytes = Buffer.from(answer.text ?? '') } = answer;
      response.writeHead(answer.status, answer.headers);
      response.write(bytes.subarray(0, does === 'half and drip' ? bytes.length >> 1 : bytes.length));
      return does === 'flood' ? flood(response, countFlood) : drip(response);
    }
    if (does === 'half' || does === 'half and cut') {
      const { bytes = Buffer.from(answer.text ?? '') } = answer;
      response.writeHead(answer.status, { ...answer.headers, 'Content-Length': bytes.length });
      response.write(bytes.subarray(0, bytes.length >> 1), () => does === 'half and cut' && request.socket.destroy());
      return;
    }
    send(answer);
  }

  const handle: http.RequestListener = (request, response) => {
    serve(request, response).catch((error: unknown) => response.destroy(error as Error));
  };
  const server = options.tls === undefined ? http.createServer(handle) : https.createServer(options.tls, handle);
  server.on('connection', () => {
    connections += 1;
  });
  server.on('clientError', (_error, socket) => socket.destroy());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `${options.tls === undefined ? 'http' : 'https'}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    store,
    requests,
    quirks,
    connectionCount: () => connections,
    floodBytes: () => floodBytes,
    count: (operation) => requests.filter((request) => request.operation === operation).length,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function operationOf(method: string | undefined, query: URLSearchParams): Operation {
  if (method === 'HEAD') return 'HeadObject';
  if (method === 'GET') return query.has('uploads') ? 'ListMultipartUploads' : query.has('uploadId') ? 'ListParts' : 'GetObject';
  if (method === 'DELETE') return 'AbortMultipartUpload';
  if (method === 'POST') return query.has('uploads') ? 'CreateMultipartUpload' : 'CompleteMultipartUpload';
  return query.has('partNumber') ? 'UploadPart' : 'PutObject';
}

async function bodyOf(request: http.IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of request) chunks.push(chunk as Buffer);
  } catch {
    return undefined;
  }
  return request.complete ? Buffer.concat(chunks) : undefined;
}
