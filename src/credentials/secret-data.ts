/** Reads the entries of a Secret. No message contains their data. */

import { X509Certificate } from 'node:crypto';
import { DiskliftError, type ErrorCode } from '../common/errors.ts';

/** The entries of a Secret or a ConfigMap, decoded. */
export type EntryData = Readonly<Record<string, Buffer>>;

export interface S3Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

/** PEM. */
export interface ClientCertificate {
  certificate: string;
  key: string;
}

/**
 * @returns an entry as text without the line end that editors and `echo` leave behind it; undefined when it is missing
 * or empty
 */
export function entryText(data: EntryData, name: string): string | undefined {
  if (!Object.hasOwn(data, name)) return undefined;
  const text = (data[name] as Buffer).toString('utf8').replace(/\r?\n$/, '');
  return text === '' ? undefined : text;
}

function oneLine(data: EntryData, name: string): string | undefined {
  const text = entryText(data, name);
  if (text !== undefined && !/^[\x20-\x7e]*$/.test(text)) throw invalid(`the Secret's entry ${name} holds more than one line of ASCII`);
  return text;
}

function invalid(what: string): DiskliftError {
  return new DiskliftError('CredentialsInvalid', what);
}

/** As the AWS tools name them, or as CDI does. @throws DiskliftError `CredentialsInvalid` */
export function s3Credentials(data: EntryData): S3Credentials {
  const accessKeyId = oneLine(data, 'AWS_ACCESS_KEY_ID') ?? oneLine(data, 'accessKeyId');
  const secretAccessKey = oneLine(data, 'AWS_SECRET_ACCESS_KEY') ?? oneLine(data, 'secretKey');
  const sessionToken = oneLine(data, 'AWS_SESSION_TOKEN');
  if (accessKeyId === undefined || secretAccessKey === undefined)
    throw invalid('the Secret has neither AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY nor accessKeyId and secretKey');
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
}

/** RFC 9110, section 5.6.2 */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** Each entry is a header. @throws DiskliftError `CredentialsInvalid` */
export function httpHeaders(data: EntryData): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const name of Object.keys(data)) {
    if (!TOKEN.test(name)) throw invalid(`the Secret's entry ${JSON.stringify(name)} cannot be the name of a header`);
    headers[name] = oneLine(data, name) ?? '';
  }
  return headers;
}

const PEM_CERTIFICATE = /-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----.*?-----END (?:TRUSTED |X509 )?CERTIFICATE-----/gs;

/**
 * Validates a CA bundle in PEM. OpenSSL silently ignores certificates that it cannot parse, and then every server is
 * refused.
 * @param what names the entry, for the message
 * @throws DiskliftError with `code` where the bundle has no certificate, or one that cannot be parsed
 */
export function caBundle(text: string, what: string, code: ErrorCode = 'CredentialsInvalid'): string {
  const invalid = (message: string) => new DiskliftError(code, message);
  const blocks = text.match(PEM_CERTIFICATE) ?? [];
  if (blocks.length === 0) {
    const isTwiceEncoded = Buffer.from(text, 'base64').toString('latin1').includes('-----BEGIN ');
    throw invalid(
      `${what} holds no certificate in PEM${isTwiceEncoded ? '; it is encoded in base64 twice' : ' (-----BEGIN CERTIFICATE-----)'}`,
    );
  }
  for (const [index, block] of blocks.entries())
    if (!isCertificate(block)) throw invalid(`${what}: its certificate number ${index + 1} of ${blocks.length} cannot be read`);
  if (/\S-----BEGIN /.test(text)) throw invalid(`${what}: each "-----BEGIN CERTIFICATE-----" must begin a line`);
  return text;
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem.replaceAll(/(?<=BEGIN |END )(TRUSTED|X509) /g, '')).raw.length > 0;
  } catch {
    return false;
  }
}

/** A Secret of the type kubernetes.io/tls. @throws DiskliftError `CredentialsInvalid` */
export function tlsClientCertificate(data: EntryData): ClientCertificate {
  const [certificate, key] = [entryText(data, 'tls.crt'), entryText(data, 'tls.key')];
  if (certificate === undefined || key === undefined) throw invalid('the Secret has no tls.crt or no tls.key');
  return { certificate, key };
}
