/** Checks of a strict S3 server that come before the operation of a request. */

import { createHash } from 'node:crypto';
import type http from 'node:http';
import { crc32 } from 'node:zlib';
import { isSignedWith } from './s3-fake-signature.ts';

interface Refusal {
  status: number;
  code: string;
}

const EMPTY_SHA256 = createHash('sha256').digest('hex');

interface Strictness {
  refuseKey?: (accessKeyId: string) => string | undefined;
  secret?: string;
  tls?: unknown;
}

/** @returns undefined for a valid request */
export function refusalOf(request: http.IncomingMessage, body: Buffer, { refuseKey, secret, tls }: Strictness): Refusal | undefined {
  const { headers, method } = request;
  const accessKeyId = /^AWS4-HMAC-SHA256 Credential=([^/]+)\//.exec(headers.authorization ?? '')?.[1];
  if (accessKeyId === undefined) return { status: 403, code: 'AccessDenied' };
  const refused = refuseKey?.(accessKeyId);
  if (refused !== undefined) return { status: refused === 'ExpiredToken' ? 400 : 403, code: refused };
  if (secret !== undefined && !isSignedWith(secret, request)) return { status: 403, code: 'SignatureDoesNotMatch' };
  // Servers of third parties do not support bodies in signed chunks.
  if (/aws-chunked/.test(headers['content-encoding'] ?? '') || headers['x-amz-decoded-content-length'] !== undefined)
    return { status: 501, code: 'NotImplemented' };
  if (headers['transfer-encoding'] !== undefined) return { status: 501, code: 'NotImplemented' };
  if (method === 'PUT' && headers['content-length'] === undefined) return { status: 411, code: 'MissingContentLength' };
  if (headers.expect !== undefined) return { status: 417, code: 'ExpectationFailed' };
  const md5 = headers['content-md5'];
  if (md5 !== undefined && md5 !== createHash('md5').update(body).digest('base64')) return { status: 400, code: 'BadDigest' };
  return payloadRefusal(headers, body, tls !== undefined) ?? checksumRefusal(headers, body);
}

function payloadRefusal(headers: http.IncomingHttpHeaders, body: Buffer, isTls: boolean): Refusal | undefined {
  const signed = headers['x-amz-content-sha256'];
  if (signed === 'UNSIGNED-PAYLOAD') return isTls ? undefined : { status: 400, code: 'InvalidRequest' };
  const actual = body.length === 0 ? EMPTY_SHA256 : createHash('sha256').update(body).digest('hex');
  return signed === actual ? undefined : { status: 400, code: 'XAmzContentSHA256Mismatch' };
}

function checksumRefusal(headers: http.IncomingHttpHeaders, body: Buffer): Refusal | undefined {
  const given = headers['x-amz-checksum-crc32'];
  if (given === undefined) return undefined;
  const actual = Buffer.alloc(4);
  actual.writeUInt32BE(crc32(body));
  return given === actual.toString('base64') ? undefined : { status: 400, code: 'BadDigest' };
}
