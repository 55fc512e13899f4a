/**
 * Secrets and ConfigMaps that a request refers to. They are read when they are needed, never cached, and sent to the
 * destination alone.
 */

import { DiskliftError, type ErrorCode } from '../common/errors.ts';
import { readHttpUrl, unbracketed } from '../common/http-url.ts';
import type { SecretKeyReference, SecretReference } from '../resource/disk-export.ts';
import { type Fields, isFields } from '../resource/schema.ts';
import { type EntryData, entryText } from './secret-data.ts';

/** A Secret or a ConfigMap: its entries, decoded. */
export interface ReferencedObject {
  labels: Readonly<Record<string, string>>;
  annotations: Readonly<Record<string, string>>;
  data: Readonly<Record<string, Buffer>>;
}

export interface ObjectReference {
  kind: 'Secret' | 'ConfigMap';
  namespace: string;
  name: string;
}

export interface ReferenceResolver {
  /** Reads the object anew at each call and keeps nothing. Undefined when there is no such object. */
  resolve(reference: ObjectReference): Promise<ReferencedObject | undefined>;
}

/**
 * Label by which the owner of a Secret permits exports to use it. A user who may create a DiskExport may lack the right
 * to read Secrets.
 */
const LABEL = 'disklift.dev/credentials';
const ALLOWED_HOSTS = 'disklift.dev/allowed-hosts';

/** A destination's URL, which may hold placeholders. */
export interface DestinationUrl {
  text: string;
  /** The Secret that contains the URL. Only the host of such a URL may be shown. */
  secretName?: string;
}

/**
 * All methods throw DiskliftError `CredentialsInvalid`, or `ReferenceInvalid` for a ConfigMap, with a message that
 * names the object and contains none of its data.
 */
export interface CredentialReader {
  /** @param endpoint the receiver of the credentials; an annotation disklift.dev/allowed-hosts must allow it */
  readSecret(reference: SecretReference, endpoint: Endpoint): Promise<EntryData>;
  readSecretKey(reference: SecretKeyReference, endpoint: Endpoint): Promise<string>;
  /** A URL of http or https. The annotation of its own Secret must allow its host. */
  readSecretUrl(reference: SecretKeyReference): Promise<DestinationUrl>;
  /** ConfigMaps are no secrets, and need no label. */
  readConfigMapKey(reference: SecretKeyReference): Promise<string>;
}

interface CredentialSource {
  resolve: ReferenceResolver['resolve'];
  /** Namespace of the request. */
  namespace: string;
  /** Whether a missing object is retryable: users may apply a request before its Secret. */
  mayCome: boolean;
  /**
   * Receives the reason why a Secret cannot be used. The error then omits it: a user who may not read Secrets must not
   * learn from messages which Secrets exist. Left out: the error contains the reason.
   */
  logRefusal?: ((message: string) => void) | undefined;
}

/** A ConfigMap contains no credentials, but mostly certificates of an authority. */
export const REFERENCE_CODES = { Secret: 'CredentialsInvalid', ConfigMap: 'ReferenceInvalid' } as const satisfies Record<
  ObjectReference['kind'],
  ErrorCode
>;

interface Showing {
  /** Name of the Secret. */
  name: string;
  endpoint: Endpoint;
  /** The endpoint as a message may name it. */
  whom: string;
}

export function createCredentialReader({ resolve, namespace, mayCome, logRefusal }: CredentialSource): CredentialReader {
  async function existing(kind: ObjectReference['kind'], name: string): Promise<ReferencedObject> {
    const object = await resolve({ kind, namespace, name });
    if (object !== undefined) return object;
    throw new DiskliftError(REFERENCE_CODES[kind], `${kind} ${namespace}/${name} does not exist`, undefined, { retryable: mayCome });
  }

  async function labelled(name: string): Promise<ReferencedObject> {
    const secret = await existing('Secret', name);
    if (secret.labels[LABEL] === 'true') return secret;
    const message = `Secret ${namespace}/${name} has no label ${LABEL}: "true", so exports may not use it`;
    throw new DiskliftError('CredentialsInvalid', message, undefined, { retryable: mayCome });
  }

  /** A Secret with the label. Every other Secret, also one that does not exist, gives the same error. */
  async function usable(name: string): Promise<ReferencedObject> {
    try {
      return await labelled(name);
    } catch (error) {
      if (logRefusal === undefined || !(error instanceof DiskliftError) || error.code !== 'CredentialsInvalid') throw error;
      logRefusal(error.message);
      const why = `it does not exist, has no label ${LABEL}: "true", or disklift may not read it; the log of disklift says which`;
      throw new DiskliftError('CredentialsInvalid', `Secret ${namespace}/${name} cannot be used: ${why}`, undefined, {
        retryable: mayCome,
      });
    }
  }

  function requireAllowed({ annotations }: ReferencedObject, { name, endpoint, whom }: Showing): void {
    const list = annotations[ALLOWED_HOSTS];
    if (list === undefined || isAllowedHost(list, endpoint)) return;
    const isForTls = isAllowedHost(list, { ...endpoint, isEncrypted: true });
    throw invalid(
      isForTls
        ? `Secret ${namespace}/${name} may not be shown to ${whom} without TLS: its annotation ${ALLOWED_HOSTS} needs http:// in front of the host`
        : `Secret ${namespace}/${name} may not be shown to ${whom}: its annotation ${ALLOWED_HOSTS} does not have it`,
    );
  }

  async function readSecret({ name }: SecretReference, endpoint: Endpoint): Promise<EntryData> {
    const secret = await usable(name);
    requireAllowed(secret, { name, endpoint, whom: endpoint.hostname });
    return secret.data;
  }

  return {
    readSecret,
    readSecretKey: async (reference, endpoint) =>
      entryOf(await readSecret(reference, endpoint), { what: `Secret ${namespace}/${reference.name}`, key: reference.key }),
    async readSecretUrl({ name, key }) {
      const secret = await usable(name);
      const what = `Secret ${namespace}/${name}`;
      const url = entryOf(secret.data, { what, key });
      const reading = readHttpUrl(url);
      if ('problem' in reading) throw invalid(`${what}: the URL in its entry ${key} ${reading.problem}`);
      requireAllowed(secret, { name, endpoint: endpointOf(reading.url), whom: 'the host in its own URL' });
      return { text: url, secretName: name };
    },
    async readConfigMapKey({ name, key }) {
      const configMap = await existing('ConfigMap', name);
      return entryOf(configMap.data, { what: `ConfigMap ${namespace}/${name}`, key, code: REFERENCE_CODES.ConfigMap });
    },
  };
}

function entryOf(data: EntryData, { what, key, code = 'CredentialsInvalid' }: { what: string; key: string; code?: ErrorCode }): string {
  const text = entryText(data, key);
  if (text === undefined) throw new DiskliftError(code, `${what} has no entry ${key}, or an empty one`);
  return text;
}

function invalid(message: string): DiskliftError {
  return new DiskliftError('CredentialsInvalid', message);
}

/** The receiver of a connection, as the request names it. */
export interface Endpoint {
  /** A name or an address; IPv6 with or without brackets. */
  hostname: string;
  port: number;
  /** Whether the connection is encrypted (TLS). */
  isEncrypted: boolean;
}

/** @param url of http or https */
export function endpointOf({ hostname, port, protocol }: URL): Endpoint {
  const isEncrypted = protocol === 'https:';
  return { hostname, port: Number(port) || (isEncrypted ? 443 : 80), isEncrypted };
}

function normalized(hostname: string): string {
  return unbracketed(hostname.toLowerCase()).replace(/\.$/, '');
}

const ENTRY = /^(?:(?<scheme>https?):\/\/)?(?:\[(?<ipv6>[^\]]+)\]|(?<host>[^:/[\]]+))(?::(?<only>\d+))?$/;

/**
 * @param list entries separated by commas: a name, an address, or `*.example` for each name beneath `example`. A port
 * behind it limits the entry to that port. `http://` in front of it allows connections without encryption; without a
 * scheme, or with `https://`, only TLS is allowed.
 * @returns whether an entry allows `endpoint`; a malformed entry allows nothing
 */
export function isAllowedHost(list: string, { hostname, port, isEncrypted }: Endpoint): boolean {
  const name = normalized(hostname);
  return list.split(',').some((entry) => {
    const { scheme = 'https', host, ipv6, only } = ENTRY.exec(entry.trim())?.groups ?? {};
    const pattern = ipv6 ?? host;
    if (pattern === undefined || (only !== undefined && Number(only) !== port)) return false;
    if (isEncrypted !== (scheme === 'https')) return false;
    return pattern.startsWith('*.')
      ? name.endsWith(normalized(pattern.slice(1))) && name.length >= pattern.length
      : name === normalized(pattern);
  });
}

interface UndecodedObject {
  kind: string;
  namespace: string;
  name: string;
  value: Fields;
}

/**
 * Decodes a Secret or a ConfigMap, which both stores hold in the form of its manifest.
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
