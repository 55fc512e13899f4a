/** A URL in a Secret: disklift shows no part of it except its host, for every end of the export. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import type http from 'node:http';
import path from 'node:path';
import { stringify } from 'yaml';
import { disklift } from '../helpers/disklift.ts';
import { type ForwardProxy, startForwardProxy } from '../helpers/forward-proxy.ts';
import { freePort } from '../helpers/free-port.ts';
import { type HttpSink, type HttpSinkOptions, startHttpSink } from '../helpers/http-sink.ts';
import { credentialsSecret, diskExport } from '../helpers/manifest.ts';
import { createRandom, SEED, SEED_TEXT } from '../helpers/seed.ts';
import { apply, type Sidecar, startSidecar, waitForStatus } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { createTestAuthority } from '../helpers/test-authority.ts';

const MIB = 1024 * 1024;

/** Letters that URLs contain unchanged, and letters that URLs contain percent-encoded. */
const LETTERS = 'abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-_~ +&ä<"';

interface Secrets {
  /** In the URL's encoding. */
  path: string;
  /** A word of letters, which could be a method or a scheme too. */
  folder: string;
  query: string;
  user: string;
  password: string;
}

type Answer = (request: http.IncomingMessage, response: http.ServerResponse, status?: number) => void;

type Part = (request: http.IncomingMessage) => string;

const urlPath: Part = ({ url = '' }) => url.replace(/[?].*$/, '');
const query: Part = ({ url = '' }) => url.replace(/^.*[?]/, '');
const user: Part = ({ headers }) => headers.authorization ?? '';
const folder: Part = (request) => urlPath(request).split('/')[2] ?? '';

interface Repeated {
  part?: Part;
  headersOf?: (part: string) => http.OutgoingHttpHeaders;
}

/** Repeats one part of the request alone, because an answer that repeats another secret is not shown anyway. */
function repeating(status: number, { part = urlPath, headersOf = () => ({}) }: Repeated = {}): Answer {
  return (request, response) => {
    const text = part(request);
    response.writeHead(status, { 'Content-Type': 'text/plain', ...headersOf(text) }).end(`no ${text}`);
  };
}

const read =
  (then: Answer): NonNullable<HttpSinkOptions['onRequest']> =>
  (request, response) =>
    void request.resume().once('end', () => then(request, response));

/** By the server's name: its reaction before it has the body, or with the body. */
const SERVERS: Record<string, HttpSinkOptions> = {
  takes: {},
  'takes-and-repeats': { onRequest: read(repeating(201, { headersOf: (url) => ({ Location: `${url}/stored`, ETag: `"${url}"` }) })) },
  'names-another-place': { onRequest: read(repeating(201, { headersOf: (url) => ({ Location: `//127.0.0.1:1${url}` }) })) },
  'promises-only': { onRequest: read(repeating(202)) },
  'fails-inside': {
    onRequest: read(({ url }, response) =>
      response.writeHead(207).end(`<multistatus><href>${url}</href><status>HTTP/1.1 507 x</status></multistatus>`),
    ),
  },
  'wrong-digest': { onRequest: read(repeating(201, { headersOf: () => ({ 'Content-MD5': 'AAAAAAAAAAAAAAAAAAAAAA==' }) })) },
  'has-expired': { onExpect: repeating(403) },
  'asks-for-credentials': {
    onExpect: repeating(401, { part: folder, headersOf: (word) => ({ 'WWW-Authenticate': `Basic realm="${word}", ${word}` }) }),
  },
  'has-no-such-place': { onExpect: repeating(404) },
  'takes-no-method': { onExpect: repeating(405, { part: folder, headersOf: (word) => ({ Allow: `GET, ${word}` }) }) },
  'has-a-conflict': { onExpect: repeating(409) },
  breaks: { onExpect: repeating(500) },
  'repeats-a-folder': { onExpect: repeating(500, { part: folder }) },
  'repeats-the-query': { onExpect: repeating(500, { part: query }) },
  'repeats-the-user': { onExpect: repeating(500, { part: user }) },
  'repeats-it-decoded': { onExpect: repeating(500, { part: (request) => decodeURIComponent(urlPath(request)) }) },
  'repeats-it-as-html': { onExpect: repeating(500, { part: (request) => urlPath(request).replaceAll('/', '<b>/</b>') }) },
  'moved-away': { onExpect: repeating(301, { headersOf: (url) => ({ Location: `${url}/new` }) }) },
  'redirects-in-circles': { onExpect: repeating(307, { headersOf: (url) => ({ Location: `${url}/again` }) }) },
  'redirects-away': { onExpect: repeating(308, { headersOf: (url) => ({ Location: `http://127.0.0.1:1${url}` }) }) },
  'redirects-to-a-denied-host': { onExpect: repeating(307, { headersOf: (url) => ({ Location: `http://169.254.169.254${url}` }) }) },
  'redirects-to-no-host': { onExpect: repeating(307, { headersOf: (url) => ({ Location: `http://:x${url}` }) }) },
  'redirects-to-no-page': { onExpect: repeating(307, { headersOf: (url) => ({ Location: `ftp://127.0.0.1${url}` }) }) },
  'expects-nothing': { onExpect: repeating(417), onRequest: read(repeating(417)) },
  closes: { onRequest: ({ socket }) => void socket.destroy() },
  'speaks-no-http': { onExpect: ({ socket, url }) => void socket.end(`${url} rubbish\r\n\r\n`) },
  'times-out-behind-a-proxy': { onRequest: read(repeating(504)) },
  'never-answers': { onRequest: (request) => void request.resume() },
};

describe('the URL in a Secret', function () {
  this.timeout(120_000);
  const temp = useTempDir();
  const random = createRandom(SEED);
  let planted: Secrets[];
  let sinks: HttpSink[];
  beforeEach(async () => {
    [planted, sinks] = [[], []];
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 4 * MIB, [{ offsetBytes: MIB, lengthBytes: MIB, content: 'random' }]);
  });
  afterEach(() => Promise.all(sinks.map((sink) => sink[Symbol.asyncDispose]())));

  async function start(options: HttpSinkOptions): Promise<string> {
    const sink = await startHttpSink(options);
    sinks.push(sink);
    return sink.url;
  }

  function token(letters = LETTERS): string {
    return encodeURIComponent(Array.from({ length: 16 }, () => letters[Math.floor(random() * letters.length)]).join(''));
  }

  /** A URL with new secrets in each part that can have one. */
  function plant(base: string): string {
    const secrets = { path: token(), folder: token(LETTERS.slice(0, 48)), query: token(), user: token(), password: token() };
    planted.push(secrets);
    const { path: name, folder, query, user, password } = secrets;
    return `${base.replace('//', `//${user}:${password}@`)}/hooks/${folder}/${name}/{disk}.qcow2?signature=${query}`;
  }

  /** Checks for each secret in three forms: in the URL's encoding, decoded, and as in the header. */
  function assertNothingPlanted(what: string, seen: string): void {
    for (const { path: name, folder, query, user, password } of planted) {
      const pair = Buffer.from(`${decodeURIComponent(user)}:${decodeURIComponent(password)}`).toString('base64');
      for (const secret of [name, folder, query, user, password].flatMap((each) => [each, decodeURIComponent(each)]).concat(pair))
        assert.ok(!seen.includes(secret) && !seen.includes(JSON.stringify(secret).slice(1, -1)), `${what} has ${secret}: ${seen}`);
    }
  }

  /** Every output of the exports: files, pages, metrics and the log. */
  async function everything(sidecar: Sidecar, names: readonly string[]): Promise<Record<string, string>> {
    const changes = await sidecar.get('/api/v1/changes');
    const reader = changes.body?.getReader();
    const first = Buffer.from((await reader?.read())?.value ?? []).toString();
    await reader?.cancel();
    const pages = ['/metrics', '/', '/api/v1/exports', ...names.map((name) => `/api/v1/exports/vms/${name}`)];
    const got = await Promise.all(pages.map(async (page) => [page, await (await sidecar.get(page)).text()] as const));
    const files = readdirSync(temp('requests')).filter((file) => !names.some((name) => file === `${name}.yaml`));
    return {
      ...Object.fromEntries(got),
      ...Object.fromEntries(files.map((file) => [file, readFileSync(path.join(temp('requests'), file), 'utf8')])),
      changes: first,
      log: sidecar.output(),
    };
  }

  interface Request {
    url: string;
    http?: object;
  }

  async function run(requests: ReadonlyMap<string, Request>, env: Record<string, string> = {}): Promise<Map<string, string>> {
    await using sidecar = await startSidecar({
      requests: temp('requests'),
      volumes: [`claim=${temp('volume')}`],
      flags: ['--max-concurrent-exports', '40', '--log-level', 'debug'],
      env,
    });
    for (const [name, { url, http }] of requests) {
      const destination = { http: { urlSecretRef: { name: `${name}-url`, key: 'url' }, ...http } };
      // One more attempt, whose announcement is an event and a line of the log.
      await apply(temp('requests'), diskExport(name, destination, { backoffLimit: 1 }), credentialsSecret(`${name}-url`, { url }));
    }
    const phases = new Map<string, string>();
    for (const name of requests.keys()) phases.set(name, (await waitForStatus(temp('requests'), name)).phase ?? '');
    for (const [what, seen] of Object.entries(await everything(sidecar, [...requests.keys()]))) assertNothingPlanted(what, seen);
    const statuses = readdirSync(temp('requests')).filter((file) => file.endsWith('.status.yaml'));
    const shown = statuses.map((file) => readFileSync(path.join(temp('requests'), file), 'utf8')).join('\n');
    assert.match(shown, /the URL in Secret [a-z-]+ \(http:\/\/127\.0\.0\.1:\d+\)/);
    return phases;
  }

  it(`is in no output for any fault of the server ${SEED_TEXT}`, async () => {
    const requests = new Map<string, Request>();
    for (const [name, options] of Object.entries(SERVERS))
      requests.set(name, { url: plant(await start(options)), http: { answerTimeoutSeconds: 2 } });
    requests.set('folders-refused', { url: plant(await start({ onRequest: read(repeating(403)) })), http: { createCollections: true } });
    requests.set('folders-missing', { url: plant(await start({ onRequest: read(repeating(409)) })), http: { createCollections: true } });
    const phases = await run(requests);
    const arrived = [...phases].filter(([, phase]) => phase === 'Succeeded').map(([name]) => name);
    assert.deepEqual(arrived, ['takes', 'takes-and-repeats', 'names-another-place']);
  });

  it(`is in no output if the connection fails, TLS fails, or the URL is not valid ${SEED_TEXT}`, async () => {
    const authority = await createTestAuthority(temp('.'));
    const { certificate, key } = await authority.issue('sink', 'IP:127.0.0.1');
    const { certificate: otherCertificate, key: otherKey } = await authority.issue('other', 'DNS:other.example');
    const secure = await start({ tls: { cert: certificate, key } });
    const misnamed = await start({ tls: { cert: otherCertificate, key: otherKey } });
    const leaving = await start({
      tls: { cert: certificate, key },
      onExpect: repeating(307, { headersOf: (url) => ({ Location: `http://127.0.0.1:1${url}` }) }),
    });
    const plain = await start({});
    const tls = { caBundleRef: { configMap: 'authority', key: 'ca.crt' } };
    await mkdir(temp('requests'));
    await writeFile(
      temp('requests/authority.yaml'),
      stringify({
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'authority', namespace: 'vms' },
        data: { 'ca.crt': authority.ca },
      }),
    );
    const phases = await run(
      new Map<string, Request>([
        ['refused', { url: plant(`http://127.0.0.1:${await freePort()}`) }],
        ['no-name', { url: plant('http://name.invalid') }],
        ['denied', { url: plant('http://169.254.169.254') }],
        ['not-trusted', { url: plant(secure) }],
        ['trusted', { url: plant(secure), http: { tls } }],
        ['misnamed', { url: plant(misnamed), http: { tls } }],
        ['leaves-tls', { url: plant(leaving), http: { tls } }],
        ['tls-to-plain', { url: plant(plain.replace('http:', 'https:')) }],
        ['plain-to-tls', { url: plant(secure.replace('https:', 'http:')) }],
        ['not-http', { url: plant('ftp://127.0.0.1') }],
        ['not-a-url', { url: plant('http://[::') }],
        ['odd-braces', { url: plant('http://127.0.0.1').replace('{disk}', '{name}{other}') }],
        ['odd-dots', { url: plant('http://127.0.0.1').replace('{disk}', '%2e%2e/x') }],
        ['odd-lines', { url: plant('http://127.0.0.1').replace('{disk}', 'a\nb') }],
      ]),
    );
    assert.deepEqual(
      [...phases].filter(([, phase]) => phase === 'Succeeded').map(([name]) => name),
      ['trusted'],
    );
  });

  it(`is in no output with a proxy between ${SEED_TEXT}`, async () => {
    await using refusing: ForwardProxy = await startForwardProxy({ tunnelStatus: 502 });
    const requests = new Map<string, Request>([
      ['by-proxy', { url: plant(await start({})) }],
      ['refused-by-proxy', { url: plant(`http://127.0.0.1:${await freePort()}`) }],
      ['no-tunnel', { url: plant('https://127.0.0.1:9') }],
    ]);
    const phases = await run(requests, { http_proxy: refusing.url, https_proxy: refusing.url, no_proxy: '' });
    assert.equal(phases.get('by-proxy'), 'Succeeded');
  });

  for (const server of ['takes-and-repeats', 'has-no-such-place', 'redirects-away'])
    it(`is not printed by the command export if the server ${server.replaceAll('-', ' ')} ${SEED_TEXT}`, async () => {
      const url = plant(await start(SERVERS[server] ?? assert.fail(server)));
      const manifest = diskExport('once', { http: { urlSecretRef: { name: 'address', key: 'url' } } }, { backoffLimit: 0 });
      await writeFile(temp('request.yaml'), [manifest, credentialsSecret('address', { url })].map((each) => stringify(each)).join('---\n'));
      const { code, stdout, stderr } = await disklift(['export', '-f', temp('request.yaml'), '--volume', `claim=${temp('volume')}`]);
      assert.equal(code, server === 'takes-and-repeats' ? 0 : 1, `${stderr}`);
      assertNothingPlanted('the command', `${stdout}\n${stderr}`);
      assert.match(`${stdout}`, /the URL in Secret address \(http:\/\/127\.0\.0\.1:\d+\)/);
    });
});
