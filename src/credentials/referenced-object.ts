/** Decodes a Secret or a ConfigMap, which both stores hold in the form of its manifest. */

import { DiskliftError, type ErrorCode } from '../common/errors.ts';
import { type Fields, isFields } from '../resource/schema.ts';
import { REFERENCE_CODES, type ReferencedObject } from './credentials.ts';

interface UndecodedObject {
  kind: string;
  namespace: string;
  name: string;
  value: Fields;
}

/**
 * @throws DiskliftError `CredentialsInvalid` or `ReferenceInvalid`, with a message that names the entry and none of its
 * data
 */
export function referencedObject({ kind, namespace, name, value }: UndecodedObject): ReferencedObject {
  const metadata = isFields(value.metadata) ? value.metadata : {};
  const what = `${kind} ${namespace}/${name}`;
  const code = REFERENCE_CODES[kind === 'ConfigMap' ? kind : 'Secret'];
  const [encoded, plain] = kind === 'Secret' ? [value.data, value.stringData] : [value.binaryData, value.data];
  const data = Object.fromEntries([
    ...textEntries(encoded, what, code).map(([key, text]) => [key, decode(text, `${what}: its entry ${key}`, code)]),
    ...textEntries(plain, what, code).map(([key, text]) => [key, Buffer.from(text)]),
  ]) as Record<string, Buffer>;
  return { labels: texts(metadata.labels), annotations: texts(metadata.annotations), data };
}

function decode(text: string, what: string, code: ErrorCode): Buffer {
  const compact = text.replace(/\s/g, '');
  const bytes = Buffer.from(compact, 'base64');
  if (bytes.toString('base64') !== compact) throw new DiskliftError(code, `${what} is not base64`);
  return bytes;
}

function textEntries(value: unknown, what: string, code: ErrorCode): [string, string][] {
  return Object.entries(isFields(value) ? value : {}).map(([key, text]) => {
    if (typeof text !== 'string') throw new DiskliftError(code, `${what}: its entry ${key} is no text: put it in quotes`);
    return [key, text];
  });
}

function texts(value: unknown): Record<string, string> {
  const entries = Object.entries(isFields(value) ? value : {});
  return Object.fromEntries(entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}
