/**
 * A reverse proxy in front of a real API server. On request it fails as load balancers, gateways and busy servers do.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { readAll } from '../helpers/run-command.ts';
import { createTestAuthority } from '../helpers/test-authority.ts';
import type { ApiServer } from './api-server.ts';
import { writeKubeconfig } from './kubeconfig.ts';

/**
 * An answer in place of the server's; 'lost': the server carries out the request, and the connection is cut before its
 * answer; 'silent': the server has begun to answer, and no more comes; for watches; 'hang': no answer comes, and the
 * server gets no request.
 */
export type Fault = { status: number; headers?: OutgoingHttpHeaders; body?: unknown } | 'lost' | 'silent' | 'hang';

export interface ApiProxy extends AsyncDisposable {
  /** The kubeconfig of the proxy, with the user of `api`. */
  kubeconfig: string;
  /** Called for each request, as `RESOURCE VERB`; undefined lets it pass. */
  fault: (what: string) => Fault | undefined;
  /** The requests so far, in order. */
  requests: { what: string; fault: Fault | undefined; atMs: number }[];
  /** Cuts the connections that are open now. */
  cut(): void;
}

/** @param directory for certificates and a kubeconfig */
export async function startApiProxy(api: ApiServer, directory: string): Promise<ApiProxy> {
  const authority = await createTestAuthority(directory);
  const { certificate: cert, key } = await authority.issue('proxy', 'IP:127.0.0.1');
  const server = https.createServer({ cert, key }, (request, response) => {
    // The client or the server has closed its connection: close the other connection as well.
    serve(request, response).catch(() => response.destroy());
  });
  // Watches are long, and no client waits for the end of an idle one.
  const agent = new https.Agent({ keepAlive: true, ca: api.ca });

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const what = describeRequest(request);
    const fault = proxy.fault(what);
    proxy.requests.push({ what, fault, atMs: performance.now() });
    const body = await readAll(request);
    if (typeof fault === 'object') {
      const { status, headers, body: text = { kind: 'Status', code: status, message: 'of the test' } } = fault;
      return void response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(text));
    }
    if (fault === 'hang') return;
    const { method, headers } = request;
    const asked = https.request(new URL(request.url ?? '', api.url), { method, headers, agent });
    response.once('close', () => asked.destroy());
    asked.end(body);
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    if (fault === 'lost') {
      await readAll(answer);
      return void response.destroy();
    }
    response.writeHead(answer.statusCode ?? 502, answer.headers).flushHeaders();
    answer.once('error', () => response.destroy());
    if (fault === 'silent') answer.resume();
    else answer.pipe(response);
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const kubeconfig = path.join(directory, 'proxy-kubeconfig');
  const { port } = server.address() as AddressInfo;
  writeKubeconfig(kubeconfig, { url: `https://127.0.0.1:${port}`, ca: authority.ca, token: api.token });
  const proxy: ApiProxy = {
    kubeconfig,
    fault: () => undefined,
    requests: [],
    cut: () => server.closeAllConnections(),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      agent.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}

const VERBS: Record<string, string> = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };

/** In the words of RBAC: `diskexports/status patch`. */
function describeRequest({ method = '', url = '' }: IncomingMessage): string {
  const { pathname, searchParams } = new URL(url, 'https://server');
  const [, resource, name, subresource] = /\/namespaces\/[^/]+\/([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(pathname) ?? [];
  assert.ok(resource !== undefined, `${method} ${url} is not what a sidecar asks for`);
  const read = searchParams.has('watch') ? 'watch' : name === undefined ? 'list' : 'get';
  return `${resource}${subresource === undefined ? '' : `/${subresource}`} ${VERBS[method] ?? read}`;
}
