/** Reads the text of an S3 server's error, and derives advice from it. Pure. */

import type { ChecksumKind } from './checksum.ts';

/** The fields of the SDK's errors that are used here. The SDK keeps fields that are not in its model. */
export interface S3Failure {
  name?: string;
  /** A text; an object where damaged XML has elements inside the message. */
  message?: unknown;
  Region?: unknown;
  Endpoint?: unknown;
  /** Present where the server's answer is an S3 error. */
  $fault?: unknown;
  /** Present where the answer is no S3 error. */
  $responseBodyText?: unknown;
  $metadata?: { httpStatusCode?: number };
  $response?: { statusCode?: number; headers?: Readonly<Record<string, string>> };
}

/** @returns the server's own words; empty when there are none */
export function textOf({ $fault, $responseBodyText, message }: S3Failure): string {
  if (typeof $responseBodyText === 'string') return $responseBodyText;
  // The SDK returns an XML element with child elements or attributes as an object.
  return $fault === undefined || typeof message !== 'string' || message === 'UnknownError' ? '' : message;
}

/** Backblaze B2 reports its caps as AccessDenied: "Cannot upload files, storage cap exceeded." */
const FULL_TEXT =
  /\b(cap|quota|limit|storage)\b[\w ]{0,20}\b(exceeded|reached)\b|\b(no|not enough|insufficient) (free |disk |storage )?space\b/i;

export function isAboutSpace(text: string): boolean {
  return FULL_TEXT.test(text);
}

/** AWS: "Part number must be an integer between 1 and 10000, inclusive". */
const PART_NUMBER = /\bpart ?number\b/i;
const PART_RANGE = /\bbetween 1 and (\d{1,5})\b/i;

/** @returns the server's maximum number of parts; undefined where `failure` does not state it */
export function partLimitOf(failure: S3Failure): number | undefined {
  const text = textOf(failure);
  const limit = PART_NUMBER.test(text) ? Number(PART_RANGE.exec(text)?.[1] ?? 0) : 0;
  return limit > 0 ? limit : undefined;
}

/** Ceph RGW counts parts only when the upload is completed, and reports too many of them as an invalid range. */
function isAboutParts(failure: S3Failure): boolean {
  return failure.name === 'InvalidRange' || (failure.name === 'InvalidArgument' && PART_NUMBER.test(textOf(failure)));
}

/** "x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters" */
const WANTS_CHECKSUM = /content-md5.*x-amz-checksum|x-amz-checksum.*required/i;

/** "the region 'us-east-1' is wrong; expecting 'eu-central-1'" */
const EXPECTED_REGION = /\bexpecting '([a-z0-9-]{1,40})'/;
const REGION = /^[a-z0-9-]{1,40}$/;
const HOST = /^[a-zA-Z0-9.:-]{1,253}$/;

/** @returns the setting to change; undefined where the error gives no more than its name */
export function adviceOf(failure: S3Failure, status: number | undefined, checksum: ChecksumKind): string | undefined {
  const { name = '', Region, Endpoint, $response } = failure;
  if (isAboutParts(failure)) return 'the server takes fewer parts: set maxParts, or a larger partSize';
  if (status === 501 && checksum !== 'None')
    return 'the server does not know this kind of request; should it be the checksum that it does not know, leave `checksum` out';
  if (WANTS_CHECKSUM.test(textOf(failure)) && checksum === 'None')
    return 'the bucket wants a checksum with each request, as with Object Lock: set `checksum` to CRC32';
  if (status !== 301 && status !== 307 && !['PermanentRedirect', 'AuthorizationHeaderMalformed'].includes(name)) return undefined;
  const expected = EXPECTED_REGION.exec(textOf(failure))?.[1];
  const region = [$response?.headers?.['x-amz-bucket-region'], Region, expected].find(
    (each) => typeof each === 'string' && REGION.test(each),
  );
  if (region !== undefined) return `the bucket is in another region: set region to ${region}`;
  if (typeof Endpoint === 'string' && HOST.test(Endpoint)) return `the bucket is at another endpoint: ${Endpoint}`;
  return undefined;
}
