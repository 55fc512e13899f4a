import assert from 'node:assert/strict';
import { DiskliftError } from '../../../src/common/errors.ts';
import {
  createCredentialReader,
  endpointOf,
  isAllowedHost,
  type ReferencedObject,
  type ReferenceResolver,
} from '../../../src/credentials/credentials.ts';
import { httpHeaders, s3Credentials, tlsClientCertificate } from '../../../src/credentials/secret-data.ts';

const ENDPOINT = { hostname: 'store.example', port: 443, isEncrypted: true };
const LABELS = { 'disklift.dev/credentials': 'true' };

function entries(data: Record<string, string>): Record<string, Buffer> {
  return Object.fromEntries(Object.entries(data).map(([name, value]) => [name, Buffer.from(value)]));
}

/** A reader of one object, with the name `it`. */
function readerOf(kind: 'Secret' | 'ConfigMap', object: Partial<ReferencedObject>, mayCome = false) {
  return createCredentialReader({
    namespace: 'vms',
    mayCome,
    resolve: async (reference) => {
      assert.equal(reference.namespace, 'vms', 'only objects in the namespace of the request are read');
      return reference.kind === kind && reference.name === 'it' ? { labels: {}, annotations: {}, data: {}, ...object } : undefined;
    },
  });
}

/** Says what is wrong, and nothing of what is secret. */
function refusal(...telling: string[]) {
  return ({ code, message }: Error & { code: string }) => {
    assert.equal(code, 'CredentialsInvalid');
    assert.doesNotMatch(message, /s3cret|\n/);
    for (const text of telling) assert.ok(message.includes(text), `"${message}" has ${text}`);
    return true;
  };
}

describe('credentials', () => {
  it('come from a Secret that says that it is for exports', async () => {
    const reader = readerOf('Secret', { labels: LABELS, data: entries({ token: 's3cret\n' }) });
    assert.deepEqual(await reader.readSecret({ name: 'it' }, ENDPOINT), entries({ token: 's3cret\n' }));
    assert.equal(await reader.readSecretKey({ name: 'it', key: 'token' }, ENDPOINT), 's3cret');
  });

  it('are refused from any other Secret', async () => {
    for (const labels of [{}, { 'disklift.dev/credentials': 'false' }, { 'disklift.dev/credentials': 'True' }]) {
      const reader = readerOf('Secret', { labels, data: entries({ token: 's3cret', url: 'https://h/s3cret' }) });
      await assert.rejects(reader.readSecret({ name: 'it' }, ENDPOINT), refusal('vms/it', 'disklift.dev/credentials'));
      await assert.rejects(reader.readSecretUrl({ name: 'it', key: 'url' }), refusal('vms/it', 'disklift.dev/credentials'));
    }
  });

  it('that are not there are named', async () => {
    const reader = readerOf('Secret', { labels: LABELS, data: entries({ empty: '\n' }) });
    await assert.rejects(reader.readSecret({ name: 'other' }, ENDPOINT), refusal('vms/other'));
    for (const key of ['token', 'empty', 'constructor'])
      await assert.rejects(reader.readSecretKey({ name: 'it', key }, ENDPOINT), refusal('vms/it', key));
    await assert.rejects(reader.readConfigMapKey({ name: 'it', key: 'ca.crt' }), {
      code: 'ReferenceInvalid',
      message: /ConfigMap vms\/it/,
    });
  });

  it('that may come later are worth another try, and only those', async () => {
    const reader = readerOf('Secret', { labels: {} }, true);
    await assert.rejects(reader.readSecret({ name: 'other' }, ENDPOINT), { code: 'CredentialsInvalid', retryable: true });
    await assert.rejects(reader.readConfigMapKey({ name: 'it', key: 'ca.crt' }), { code: 'ReferenceInvalid', retryable: true });
    await assert.rejects(reader.readSecret({ name: 'it' }, ENDPOINT), { code: 'CredentialsInvalid', retryable: true });
    const labelled = readerOf('Secret', { labels: LABELS }, true);
    await assert.rejects(labelled.readSecretKey({ name: 'it', key: 'token' }, ENDPOINT), { code: 'CredentialsInvalid', retryable: false });
    const final = readerOf('Secret', { labels: LABELS });
    await assert.rejects(final.readSecret({ name: 'other' }, ENDPOINT), { code: 'CredentialsInvalid', retryable: false });
  });

  it('are shown only to the hosts that their owner allows', async () => {
    const annotations = { 'disklift.dev/allowed-hosts': 'other.example, *.store.example' };
    const reader = readerOf('Secret', {
      labels: LABELS,
      annotations,
      data: entries({ token: 's3cret', url: 'https://evil.example/s3cret' }),
    });
    await assert.rejects(reader.readSecret({ name: 'it' }, ENDPOINT), refusal('store.example'));
    await assert.rejects(reader.readSecretUrl({ name: 'it', key: 'url' }), refusal('vms/it', 'allowed-hosts'));
    assert.equal(
      await reader.readSecretKey({ name: 'it', key: 'token' }, { hostname: 'a.store.example', port: 9, isEncrypted: true }),
      's3cret',
    );
  });

  it('are not shown without TLS to a host that their owner allows, unless the owner says so', async () => {
    const secret = (list: string) =>
      readerOf('Secret', { labels: LABELS, annotations: { 'disklift.dev/allowed-hosts': list }, data: entries({ token: 's3cret' }) });
    const plain = { ...ENDPOINT, isEncrypted: false };
    await assert.rejects(secret('store.example').readSecret({ name: 'it' }, plain), refusal('without TLS', 'needs http:// in front'));
    assert.ok(await secret('http://store.example').readSecret({ name: 'it' }, plain));
  });

  describe('that cannot be used, where messages go to users who may not read Secrets', () => {
    type Found = Awaited<ReturnType<ReferenceResolver['resolve']>>;
    const forbidden = new DiskliftError('CredentialsInvalid', 'Secret vms/it cannot be read: forbidden', undefined, { retryable: false });
    const found: Record<string, () => Promise<Found>> = {
      'does not exist': async () => undefined,
      'has no label': async () => ({ labels: {}, annotations: {}, data: entries({ url: 'https://h/', token: 's3cret' }) }),
      'has no label and other hosts': async () => ({ labels: {}, annotations: { 'disklift.dev/allowed-hosts': 'x' }, data: {} }),
      'cannot be read': () => Promise.reject(forbidden),
    };

    async function failuresOf(resolve: () => Promise<Found>) {
      const logged: string[] = [];
      const reader = createCredentialReader({ namespace: 'vms', mayCome: true, resolve, logRefusal: (line) => logged.push(line) });
      const key = { name: 'it', key: 'token' };
      const reads = [
        reader.readSecret({ name: 'it' }, ENDPOINT),
        reader.readSecretKey(key, ENDPOINT),
        reader.readSecretUrl({ name: 'it', key: 'url' }),
      ];
      const failures = (await Promise.allSettled<unknown>(reads)).map((read) => {
        const { code, message, retryable } = (read as PromiseRejectedResult).reason as DiskliftError;
        return { code, message, retryable };
      });
      return { failures, logged };
    }

    for (const [what, resolve] of Object.entries(found))
      it(`give the same error when the Secret ${what}, and the log says which`, async () => {
        const { failures, logged } = await failuresOf(resolve);
        const message =
          'Secret vms/it cannot be used: it does not exist, has no label disklift.dev/credentials: "true", or disklift may not read it; the log of disklift says which';
        assert.deepEqual(failures, Array(3).fill({ code: 'CredentialsInvalid', message, retryable: true }));
        assert.equal(logged.length, 3);
        assert.match(logged[0] ?? '', new RegExp(what.replace(/ and .*/, '')));
      });

    it('fail as the API server does where it does not answer', async () => {
      const away = new DiskliftError('StoreUnavailable', 'the API server does not answer');
      const { failures, logged } = await failuresOf(() => Promise.reject(away));
      assert.deepEqual([failures[0]?.code, logged], ['StoreUnavailable', []]);
    });
  });

  it('take a URL for what it is, placeholders in its path included', async () => {
    const data = entries({
      url: 'https://u:s3cret@h.example:8443/{disk}?s3cret=1\n',
      none: 's3cret',
      host: 'https://{name}/s3cret',
      ftp: 'ftp://s3cret/',
    });
    const annotations = { 'disklift.dev/allowed-hosts': 'h.example:8443' };
    const reader = readerOf('Secret', { labels: LABELS, annotations, data });
    assert.deepEqual(await reader.readSecretUrl({ name: 'it', key: 'url' }), {
      text: 'https://u:s3cret@h.example:8443/{disk}?s3cret=1',
      secretName: 'it',
    });
    for (const key of ['none', 'host', 'ftp']) await assert.rejects(reader.readSecretUrl({ name: 'it', key }), refusal('vms/it', key));
  });

  it('need no label in a ConfigMap, because it holds no credentials', async () => {
    const reader = readerOf('ConfigMap', { data: entries({ 'ca.crt': 'PEM\nPEM\n' }) });
    assert.equal(await reader.readConfigMapKey({ name: 'it', key: 'ca.crt' }), 'PEM\nPEM');
    await assert.rejects(reader.readSecretKey({ name: 'it', key: 'ca.crt' }, ENDPOINT), refusal('Secret vms/it'));
  });
});

describe('allowed hosts', () => {
  for (const [list, url, isAllowed] of [
    ['a.example', 'https://a.example/', true],
    ['a.example', 'https://A.EXAMPLE./', true],
    ['b.example,a.example', 'https://a.example/', true],
    ['a.example', 'https://b.a.example/', false],
    ['a.example', 'http://a.example/', false],
    ['a.example', 'https://a.example:8443/', true],
    ['https://a.example', 'https://a.example/', true],
    ['https://a.example', 'https://a.example:8443/', true],
    ['https://a.example', 'http://a.example/', false],
    ['http://a.example', 'http://a.example:8080/', true],
    ['http://a.example', 'https://a.example/', false],
    ['http://a.example, a.example', 'https://a.example/', true],
    ['http://a.example:8080', 'http://a.example:8080/', true],
    ['http://a.example:8080', 'http://a.example/', false],
    ['http://*.example', 'http://a.example/', true],
    ['http://[fd00::1]:9000', 'http://[fd00::1]:9000/', true],
    ['a.example', 'https://a.example.org/', false],
    ['*.example', 'https://a.example/', true],
    ['*.example', 'https://a.b.example/', true],
    ['*.example', 'https://example/', false],
    ['*.example', 'https://aexample/', false],
    ['a.example:443', 'https://a.example/', true],
    ['a.example:443', 'http://a.example/', false],
    ['a.example:8443', 'https://a.example:8443/', true],
    ['a.example:8443', 'https://a.example/', false],
    ['10.0.0.1', 'https://10.0.0.1/', true],
    ['[fd00::1]:9000', 'https://[fd00::1]:9000/', true],
    ['[fd00::1]', 'https://[fd00::2]/', false],
    ['', 'https://a.example/', false],
    ['*', 'https://a.example/', false],
    ['a.example:', 'https://a.example/', false],
    ['ftp://a.example', 'https://a.example/', false],
    ['https://a.example/', 'https://a.example/', false],
    ['http://https://a.example', 'https://a.example/', false],
  ] as const)
    it(`${isAllowed ? 'have' : 'do not have'} ${url} in "${list}"`, () => {
      assert.equal(isAllowedHost(list, endpointOf(new URL(url))), isAllowed);
    });
});

describe('the data of a Secret', () => {
  it('has S3 credentials as the AWS tools name them, or as CDI does', () => {
    const aws = entries({ AWS_ACCESS_KEY_ID: 'k\n', AWS_SECRET_ACCESS_KEY: 's', AWS_SESSION_TOKEN: 't' });
    assert.deepEqual(s3Credentials(aws), { accessKeyId: 'k', secretAccessKey: 's', sessionToken: 't' });
    assert.deepEqual(s3Credentials(entries({ accessKeyId: 'k', secretKey: 's' })), { accessKeyId: 'k', secretAccessKey: 's' });
    assert.throws(() => s3Credentials(entries({ AWS_ACCESS_KEY_ID: 's3cret' })), refusal('AWS_SECRET_ACCESS_KEY'));
    assert.throws(() => s3Credentials(entries({ accessKeyId: 'k', secretKey: 's3cret\ns3cret' })), refusal('secretKey'));
  });

  it('has headers, and none that would become two', () => {
    assert.deepEqual(httpHeaders(entries({ Authorization: 'Bearer x\r\n', 'X-Empty': '' })), { Authorization: 'Bearer x', 'X-Empty': '' });
    assert.throws(() => httpHeaders(entries({ 'not a token': 's3cret' })), refusal('not a token'));
    for (const value of ['s3cret\r\nX: y', 's3cret\n\n', 's3cret\rx', 's3cret\0', 's3cret\u00e4', '\ns3cret'])
      assert.throws(() => httpHeaders(entries({ 'X-Key': value })), refusal('X-Key'), JSON.stringify(value));
  });

  it('has a certificate with its key', () => {
    assert.deepEqual(tlsClientCertificate(entries({ 'tls.crt': 'c\n', 'tls.key': 'k' })), { certificate: 'c', key: 'k' });
    assert.throws(() => tlsClientCertificate(entries({ 'tls.crt': 's3cret' })), refusal('tls.key'));
  });
});
