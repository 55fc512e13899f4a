/** One raw request to an API server. */

import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { readAll } from '../helpers/run-command.ts';

export interface ApiAnswer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: what the server sends is for the test to look at
  body: any;
  /** Texts of the header Warning. */
  warnings: string[];
}

export interface ApiRequest {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Sent as JSON. */
  body?: unknown;
  contentType?: string;
  accept?: string;
}

/** The server, and the identity of the client. Everything is PEM, except the token. */
export interface ApiAccess {
  ca?: string | undefined;
  token?: string | undefined;
  cert?: string | undefined;
  key?: string | undefined;
}

export async function sendApiRequest(url: URL, options: ApiRequest & ApiAccess): Promise<ApiAnswer> {
  const { method = 'GET', body, contentType = 'application/json', accept = 'application/json', token, ...tls } = options;
  const content = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  const headers = {
    accept,
    'content-type': contentType,
    // Node announces no body of a DELETE by itself.
    ...(content === undefined ? {} : { 'content-length': content.length }),
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  };
  const request = https.request(url, { method, headers, ca: tls.ca, cert: tls.cert, key: tls.key, agent: false });
  request.end(content);
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    request.once('response', resolve).once('error', reject);
  });
  const text = (await readAll(response)).toString();
  const isJson = response.headers['content-type']?.includes('json') ?? false;
  return {
    status: response.statusCode ?? 0,
    body: isJson ? JSON.parse(text) : text,
    warnings: (response.headersDistinct.warning ?? []).map((warning) => /^\d+ \S+ "(.*)"$/.exec(warning)?.[1] ?? warning),
  };
}
