/**
 * The contract of a connection to the API server: which server, with which credentials, over which connections; and
 * what both kinds of access share.
 */

import { readFile } from 'node:fs/promises';
import type { Dispatcher } from 'undici';

export interface ApiAccess {
  /** URL of the API server, without a slash at its end. */
  readonly server: string;
  /** The namespace of the configuration, where it has one. */
  readonly namespace: string | undefined;
  /**
   * Called before each request. A token that another program renews is read again every minute.
   * @throws Error of node:fs, or of a credential plugin, when the credentials cannot be read
   */
  authenticate(): Promise<Credentials>;
  /** Later requests use new connections. To be called after a request without an answer. */
  reconnect(): void;
  /** Ends all connections, and the requests on them. */
  close(): Promise<void>;
}

interface Credentials {
  headers: Readonly<Record<string, string>>;
  /** Requests share its connections. */
  dispatcher: Dispatcher;
}

/**
 * A dispatcher does not end a connection that is being opened, and such a connection keeps the process alive. (With a
 * signal for tls.connect, Node 24 fails an assertion of its own.)
 */
const CONNECT_LIMIT_MS = 4000;

/**
 * HTTP/1.1. Over HTTP/2, Node 24.21 was seen to write frames for ever in a process without processor time: it hung, and
 * its memory grew. undici 8.13 also joins the values of a repeated header by commas over HTTP/2.
 * Connections stay open for a minute; the API server closes them after 90 s without a request.
 */
export const HTTP_1 = { allowH2: false, keepAliveTimeout: 60_000 } as const;

/** Options of tls.connect for a direct connection. */
export const CONNECT_OPTIONS = {
  timeout: CONNECT_LIMIT_MS,
  allowPartialTrustChain: true,
  autoSelectFamily: true,
  /** Each address but the last gets half of the limit. Node's default of 250 ms is too short for a distant server. */
  autoSelectFamilyAttemptTimeout: CONNECT_LIMIT_MS / 2,
};

/** client-go reads a token again after a minute at the latest. */
const TOKEN_LIFE_MS = 60_000;

/**
 * Reads the token of a file that another program renews. When the file cannot be read, the last token is used again.
 * @returns a function that throws only before the first token was read: an Error of node:fs, or an Error for an empty
 * file
 */
export function createTokenFileReader(file: string, monotonicMs: () => number): () => Promise<string> {
  let last: { token: string; readMs: number } | undefined;
  return async () => {
    if (last !== undefined && monotonicMs() - last.readMs < TOKEN_LIFE_MS) return last.token;
    try {
      const token = (await readFile(file, 'utf8')).trim();
      if (token === '') throw new Error(`${file}: the token file is empty`);
      last = { token, readMs: monotonicMs() };
    } catch (error) {
      if (last === undefined) throw error;
    }
    return last.token;
  };
}
