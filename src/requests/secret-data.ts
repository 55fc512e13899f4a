/** What the entries of a Secret mean. No message says what one holds. */

import { DiskliftError } from '../common/errors.ts';

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

/** @returns an entry as text without the line end that editors and `echo` leave behind it; undefined when there is none */
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

/** A Secret of the type kubernetes.io/tls. @throws DiskliftError `CredentialsInvalid` */
export function tlsClientCertificate(data: EntryData): ClientCertificate {
  const [certificate, key] = [entryText(data, 'tls.crt'), entryText(data, 'tls.key')];
  if (certificate === undefined || key === undefined) throw invalid('the Secret has no tls.crt or no tls.key');
  return { certificate, key };
}
