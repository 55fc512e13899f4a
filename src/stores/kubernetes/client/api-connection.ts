/** One request to the API server: signed, counted, limited in time, and its failure typed. */

import { fetch, type Response } from 'undici';
import { throwIfAborted } from '../../../common/abortable.ts';
import { KIB, MIB } from '../../../common/bytes.ts';
import type { Clock } from '../../../common/clock.ts';
import { textWithin } from '../../../common/text.ts';
import { withinLimit } from '../../../common/time-limit.ts';
import type { ApiAccess } from './api-access.ts';
import { apiFailureOf, refusedError, tooLargeError, unansweredError, unusableError } from './api-failure.ts';
import type { ApiFailure, ApiRequestFacts, CallOptions } from './contract.ts';

export interface ApiRequest extends ApiRequestFacts {
  /** The object or list as messages name it. */
  target: string;
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Encoded. */
  path: string;
  query?: Readonly<Record<string, string | number | boolean | undefined>>;
  /** Sent as JSON. */
  body?: unknown;
  contentType?: string;
  /** Limit of the answer's body; {@link MAX_OBJECT_BYTES} when left out. */
  maxBytes?: number;
}

/**
 * Limit of an answer that is one object. The API server stores 1.5 MiB of each at most, and JSON may take twice as much
 * or more.
 */
const MAX_OBJECT_BYTES = 8 * MIB;

/** Limit of the text of a refusal. */
const MAX_REFUSAL_BYTES = 256 * KIB;

export interface ApiConnectionOptions {
  access: ApiAccess;
  clock: Clock;
  userAgent: string;
  /** Called for each request before it is sent. */
  onRequest?(facts: ApiRequestFacts): void;
  /** Called for each request that was refused or not answered, and not aborted. */
  onFailure?(facts: ApiRequestFacts, kind: ApiFailure['kind']): void;
}

export interface ApiConnection {
  /** The answer's JSON. @throws DiskliftError as {@link KubeResource} has it */
  call(request: ApiRequest, options?: CallOptions): Promise<unknown>;
  /**
   * Opens a stream, which `signal` ends. The time limit applies until the answer starts.
   * @throws DiskliftError as `call`
   */
  open(request: ApiRequest, signal: AbortSignal): Promise<ReadableStream<Uint8Array>>;
}

const LIMIT_MS = 15_000;

export function createApiConnection({ access, clock, userAgent, onRequest, onFailure }: ApiConnectionOptions): ApiConnection {
  async function send(request: ApiRequest, signal: AbortSignal): Promise<Response> {
    const url = new URL(`${access.server}${request.path}`);
    for (const [name, value] of Object.entries(request.query ?? {})) if (value !== undefined) url.searchParams.set(name, String(value));
    const headers: Record<string, string> = { Accept: 'application/json', 'User-Agent': userAgent };
    if (request.body !== undefined) headers['Content-Type'] = request.contentType ?? 'application/json';
    const credentials = await access.authenticate();
    throwIfAborted(signal);
    onRequest?.(request);
    return fetch(url, {
      method: request.method,
      headers: { ...headers, ...credentials.headers },
      body: request.body === undefined ? null : JSON.stringify(request.body),
      signal,
      dispatcher: credentials.dispatcher,
    });
  }

  async function succeed(what: string, response: Response): Promise<Response> {
    const { ok, status, headers, body } = response;
    if (ok) return response;
    throw refusedError(
      { what, status, body: await readText(what, body, MAX_REFUSAL_BYTES), retryAfter: headers.get('retry-after') ?? undefined },
      clock.nowMs(),
    );
  }

  /** Aborts the request of `task` when the task is late or has failed. */
  async function limited<T>(what: string, { signal, limitMs = LIMIT_MS }: CallOptions, task: (signal: AbortSignal) => Promise<T>) {
    const given = signal ?? new AbortController().signal;
    const ending = new AbortController();
    const late = () => {
      access.reconnect();
      return unusableError(what, `no answer in ${limitMs / 1000} s`);
    };
    try {
      return await withinLimit(task(AbortSignal.any([given, ending.signal])), { limitMs, clock, signal: given, late });
    } catch (error) {
      ending.abort();
      throwIfAborted(given);
      throw unansweredError(what, error);
    }
  }

  /** Reports the failure of `task`. */
  async function reported<T>(request: ApiRequest, task: Promise<T>): Promise<T> {
    try {
      return await task;
    } catch (error) {
      const failure = apiFailureOf(error);
      if (failure !== undefined) onFailure?.(request, failure.kind);
      throw error;
    }
  }

  return {
    async call(request, options = {}) {
      const what = describe(request);
      const { maxBytes = MAX_OBJECT_BYTES } = request;
      const answer = limited(what, options, async (signal) => {
        const { body } = await succeed(what, await send(request, signal));
        return readText(what, body, maxBytes);
      });
      const text = await reported(request, answer);
      try {
        return JSON.parse(text);
      } catch {
        throw unusableError(what, 'its answer is not JSON');
      }
    },
    async open(request, signal) {
      const what = describe(request);
      const answer = limited(what, { signal }, async (ended) => succeed(what, await send(request, ended)));
      const { body } = await reported(request, answer);
      if (body === null) throw unusableError(what, 'its answer is empty');
      return body;
    },
  };
}

/** @throws DiskliftError of a failure `TooLarge`; the caller then ends the request. */
function readText(what: string, body: Response['body'], maxBytes: number): Promise<string> {
  return textWithin(body ?? [], maxBytes, () => tooLargeError(what, maxBytes));
}

export function describe({ verb, resource, target }: ApiRequest): string {
  return `${verb} ${resource} ${target}`;
}
