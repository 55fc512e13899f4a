/**
 * Signature of a request, as a server computes it: "Authenticating Requests: Using the Authorization Header (AWS
 * Signature Version 4)".
 */

import { createHash, createHmac } from 'node:crypto';
import type http from 'node:http';

const HEADER =
  /^AWS4-HMAC-SHA256 Credential=[^/]+\/(([^/]+)\/([^/]+)\/([^/]+)\/aws4_request), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/;

/** A request to a proxy has the whole URL. */
const ORIGIN = /^https?:\/\/[^/]+/;

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const hmac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest();

/** Whether the method, the URL and the signed headers are those that were signed with `secret`. */
export function isSignedWith(secret: string, { method, url = '', headers }: http.IncomingMessage): boolean {
  const [, scope = '', day = '', region = '', service = '', names = '', signature] = HEADER.exec(headers.authorization ?? '') ?? [];
  const [path = '', query = ''] = url.replace(ORIGIN, '').split('?', 2);
  const canonical = [
    method,
    path,
    query.split('&').sort().join('&'),
    ...names.split(';').map((name) => `${name}:${`${headers[name] ?? ''}`.trim().replace(/ +/g, ' ')}`),
    '',
    names,
    headers['x-amz-content-sha256'],
  ].join('\n');
  const signed = ['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, sha256(canonical)].join('\n');
  const key = [day, region, service, 'aws4_request'].reduce<string | Buffer>(hmac, `AWS4${secret}`);
  return hmac(key, signed).toString('hex') === signature;
}
