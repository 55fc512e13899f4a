/**
 * An API server with faults that a real one does not have on demand: refusals, silence, half a line. It serves lists
 * and watches of DiskExports in one namespace. It refuses requests that a real one would refuse, and requests that a
 * client has no reason to send.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ApiAccess } from '../../src/stores/kubernetes/client/api-access.ts';
import { createKubeconfigAccess } from '../../src/stores/kubernetes/client/kubeconfig-access.ts';
import { drip, flood } from './endless-answer.ts';

const COLLECTION = '/apis/disklift.dev/v1alpha1/namespaces/vms/diskexports';

/** An answer in place of the right one. */
export interface Fault {
  status?: number;
  headers?: Record<string, string>;
  body?: unknown;
  /** Closes the connection without an answer. */
  cut?: boolean;
  /** Sends no answer. */
  hang?: boolean;
  /** Sends 100 MiB as the body. Called with the count of bytes. */
  flood?: (sentBytes: number) => void;
  /** Sends the body a byte at a time, without end. */
  drip?: boolean;
}

interface FakeWatch {
  query: URLSearchParams;
  response: ServerResponse;
  /** Writes the text unchanged. */
  write(text: string): void;
  send(type: string, object: unknown): void;
  end(): void;
  /** Without the end of the body. */
  cut(): void;
}

type FakeObject = { metadata: { name: string; namespace: string; uid: string; resourceVersion: string } } & Record<string, unknown>;

export interface FakeApiServer extends AsyncDisposable {
  url: string;
  /** The access of a client. @param file path of the kubeconfig that it writes */
  access(file: string): ApiAccess;
  /** Creates or changes an object, and reports it to every watch. */
  put(name: string, fields?: Record<string, unknown>): FakeObject;
  remove(name: string): void;
  /** Answers the next requests with these faults, one fault a request. */
  refuse(what: 'list' | 'watch' | 'other', ...faults: Fault[]): void;
  /** As after a compaction: watches from before now, and pages of lists begun before now, get 410. */
  compact(): void;
  /** All requests so far: `list`, `list continue`, `watch`, and METHOD path of others. */
  requests: string[];
  headers: http.IncomingHttpHeaders[];
  connections: number;
  /** Open watches, the newest last. */
  watches: FakeWatch[];
  pageSize: number;
  /** Objects that lists contain beside those that were put. */
  strays: unknown[];
  /** Answers requests that are neither list nor watch. */
  other: (request: IncomingMessage, body: string) => Fault;
}

export async function startFakeApiServer(): Promise<FakeApiServer> {
  const objects = new Map<string, FakeObject>();
  const log: { version: number; type: string; object: FakeObject }[] = [];
  const faults: Record<string, Fault[]> = { list: [], watch: [], other: [] };
  let version = 100;
  let oldest = 0;

  const server = http.createServer((request, response) => {
    receive(request).then(
      (body) => reply(response, answer(request, response, body) ?? { hang: true }),
      () => {},
    );
  });
  server.on('connection', () => {
    fake.connections += 1;
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const fake: FakeApiServer = {
    url,
    access(file) {
      const config = {
        'current-context': 'fake',
        contexts: [{ name: 'fake', context: { cluster: 'fake', user: 'fake' } }],
        clusters: [{ name: 'fake', cluster: { server: url, 'insecure-skip-tls-verify': true } }],
        users: [{ name: 'fake', user: { token: 'secret-token' } }],
      };
      writeFileSync(file, JSON.stringify(config));
      return createKubeconfigAccess({ kubeconfig: file });
    },
    put(name, fields = {}) {
      version += 1;
      const known = objects.get(name);
      const metadata = { name, namespace: 'vms', uid: known?.metadata.uid ?? `uid-${version}`, resourceVersion: String(version) };
      const object = { ...fields, metadata };
      objects.set(name, object);
      notifyWatches(known === undefined ? 'ADDED' : 'MODIFIED', object);
      return object;
    },
    remove(name) {
      version += 1;
      const known = objects.get(name);
      assert.ok(known !== undefined);
      objects.delete(name);
      notifyWatches('DELETED', { ...known, metadata: { ...known.metadata, resourceVersion: String(version) } });
    },
    refuse: (what, ...more) => void faults[what]?.push(...more),
    compact() {
      version += 1;
      oldest = version;
    },
    requests: [],
    headers: [],
    connections: 0,
    watches: [],
    pageSize: 500,
    strays: [],
    other: () => ({ status: 404, body: { reason: 'NotFound', message: 'not found' } }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };

  function notifyWatches(type: string, object: FakeObject): void {
    log.push({ version, type, object });
    for (const watch of fake.watches) watch.send(type, object);
  }

  function reply(response: ServerResponse, { status = 200, headers = {}, body = {}, cut, hang, ...endless }: Fault): void {
    if (cut) response.socket?.destroy();
    if (cut || hang) return;
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    if (endless.flood !== undefined) flood(response, endless.flood);
    else if (endless.drip) drip(response);
    else response.end(typeof body === 'string' ? body : JSON.stringify(body));
  }

  /** @returns the answer, unless it has been sent */
  function answer(request: IncomingMessage, response: ServerResponse, body: string): Fault | undefined {
    const { pathname, searchParams: query } = new URL(request.url ?? '', url);
    fake.headers.push(request.headers);
    const isList = request.method === 'GET' && pathname === COLLECTION;
    const what = isList ? (query.has('watch') ? 'watch' : 'list') : 'other';
    fake.requests.push(isList ? `${what}${query.has('continue') ? ' continue' : ''}` : `${request.method} ${request.url}`);
    const fault = faults[what]?.shift();
    if (fault !== undefined) return fault;
    if (request.headers.authorization !== 'Bearer secret-token') return { status: 401 };
    if (what === 'list') return list(query);
    return what === 'watch' ? watch(query, response) : fake.other(request, body);
  }

  function list(query: URLSearchParams): Fault {
    const [from = 0, since = version] = (query.get('continue') ?? '').split('@').filter(Boolean).map(Number);
    const limit = Number(query.get('limit') ?? Number.NaN);
    if (!(limit >= 1 && limit <= 500)) return { status: 400, body: { message: 'no limit' } };
    if (since < oldest) return { status: 410, body: { reason: 'Expired', message: 'the continue token is too old' } };
    const all = [...fake.strays, ...objects.values()];
    const to = from + Math.min(limit, fake.pageSize);
    const next = to < all.length ? `${to}@${since}` : undefined;
    return { body: { metadata: { resourceVersion: String(since), continue: next }, items: all.slice(from, to) } };
  }

  function watch(query: URLSearchParams, response: ServerResponse): Fault | undefined {
    const since = Number(query.get('resourceVersion') || Number.NaN);
    const isWhole = since > 0 && query.get('allowWatchBookmarks') === 'true' && Number(query.get('timeoutSeconds')) > 0;
    if (!isWhole) return { status: 400, body: { message: `not so: ${query}` } };
    if (since < oldest) return { status: 410, body: { reason: 'Expired', message: 'too old resource version' } };
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    const open: FakeWatch = {
      query,
      response,
      write: (text) => void response.write(text),
      send: (type, object) => open.write(`${JSON.stringify({ type, object })}\n`),
      end: () => response.end(),
      cut: () => response.socket?.destroy(),
    };
    response.on('close', () => fake.watches.splice(fake.watches.indexOf(open), 1));
    fake.watches.push(open);
    for (const event of log) if (event.version > since) open.send(event.type, event.object);
    return undefined;
  }

  return fake;
}

async function receive(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) text += chunk;
  return text;
}
