/** The HTTP app of sidecar and controller: metrics, probes, exports and schedules as JSON, and the status page. */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import express, { type Express, type NextFunction, type Request, type Response, Router } from 'express';
import { DiskliftError } from '../common/errors.ts';
import type { ExportMetrics } from '../metrics/export-metrics.ts';
import { scrapeFormatOf } from '../metrics/scrape.ts';
import type { ChangeStream } from './change-stream.ts';
import type { ShownExports } from './export-registry.ts';
import type { Health } from './health.ts';
import { parseQuery, queryExports } from './query-exports.ts';
import { type Authorize, mayStayOf, requireToken } from './require-token.ts';
import type { SchedulePage } from './schedule-view.ts';

export interface AppOptions {
  /** Exports for the page and its API; when left out, there is no page and no API. */
  exports?: ApiOptions | undefined;
  metrics: Pick<ExportMetrics, 'scrape'>;
  health: Pick<Health, 'liveness' | 'readiness'>;
  /**
   * Judges tokens for metrics and exports; when left out, no token is needed. The probes and the page, which contains
   * no facts, need none.
   */
  authorize?: Authorize | undefined;
  warn(message: string): void;
}

export function createApp(options: AppOptions): Express {
  const { metrics, health, exports, authorize, warn } = options;
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', false);
  app.use(surviveErrors, securityHeaders, readOnly);
  app.get('/livez', (_request, response) => {
    const { problem, facts } = health.liveness();
    answerProbe(response, problem, facts);
  });
  app.get('/readyz', async (_request, response) => {
    answerProbe(response, await health.readiness());
  });
  if (exports !== undefined) app.use(pageAssets());
  app.get('/metrics', requireToken(authorize, 'metrics'), async (request, response) => {
    const { contentType, text } = await metrics.scrape(scrapeFormatOf(request.headers.accept));
    response.set('Content-Type', contentType).vary('Accept').send(text);
  });
  if (exports !== undefined) {
    app.use(requireToken(authorize, 'exports'));
    app.use('/api/v1', apiRoutes(exports));
  }
  app.use((_request, response) => {
    response.status(404).type('text/plain').send('not found\n');
  });
  app.use((error: unknown, request: Request, response: Response, next: NextFunction) =>
    answerError(error, { request, response, next, warn }),
  );
  return app;
}

/**
 * Without a listener, one response's error would end the process and all its exports. The connection closes in either
 * case.
 */
function surviveErrors(_request: Request, response: Response, next: NextFunction): void {
  response.on('error', () => response.destroy());
  next();
}

/** Refuses other methods and bodies, because nothing can be changed over HTTP. */
function readOnly({ method, headers }: Request, response: Response, next: NextFunction): void {
  const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
  if ((method === 'GET' || method === 'HEAD') && !hasBody) {
    next();
    return;
  }
  // The body is not read.
  response.set({ Allow: 'GET, HEAD', Connection: 'close' });
  response
    .status(hasBody ? 413 : 405)
    .type('text/plain')
    .send('only GET and HEAD, without a body\n');
}

function answerProbe(response: Response, problem: string | undefined, facts?: string): void {
  const text = [problem ?? 'ok', ...(facts === undefined ? [] : [facts])].join(': ');
  response
    .status(problem === undefined ? 200 : 503)
    .type('text/plain')
    .send(`${text}\n`);
}

interface Failed {
  request: Request;
  response: Response;
  next: NextFunction;
  warn: AppOptions['warn'];
}

function answerError(error: unknown, { request, response, next, warn }: Failed): void {
  // express ends the response.
  if (response.headersSent) {
    next(error);
    return;
  }
  response.type('text/plain');
  if (error instanceof DiskliftError && error.code === 'InvalidRequest') response.status(400).send(`${error.message}\n`);
  // A path that cannot be decoded.
  else if (error instanceof URIError) response.status(400).send('bad request\n');
  else {
    warn(`${request.path}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    response.status(500).send('internal error\n');
  }
}

export interface ApiOptions {
  registry: ShownExports;
  changes: ChangeStream;
  /** Version of the program. */
  version: string;
  /** Left out in a sidecar, which has no schedules. */
  schedules?: (() => SchedulePage) | undefined;
  /** Why this process has no exports to show now; undefined while it has them. */
  problem?: (() => string | undefined) | undefined;
}

/** Routes of /api/v1: exports and schedules as JSON, and a stream of changes. */
function apiRoutes({ registry, changes, version, schedules, problem }: ApiOptions): Router {
  const router = Router();
  router.use((_request, response, next) => {
    const text = problem?.();
    if (text === undefined) next();
    else response.status(503).set('Retry-After', '10').type('text/plain').send(`${text}\n`);
  });
  if (schedules !== undefined) router.get('/schedules', (_request, response) => void response.json(schedules()));
  router.get('/exports', (request, response) => {
    const query = parseQuery(paramsOf(request));
    const hasSchedules = schedules !== undefined;
    response.json({ version, hasSchedules, ...queryExports(registry, query), offset: query.offset, limit: query.limit });
  });
  router.get('/exports/:namespace/:name', (request, response) => {
    const view = registry.get(keyOf(request));
    if (view === undefined) notFound(response);
    else response.json(view);
  });
  router.get('/exports/:namespace/:name/map', (request, response) => {
    const map = registry.mapOf(keyOf(request), paramsOf(request).get('disk') ?? '');
    if (map === undefined) response.status(204).end();
    else response.json(map);
  });
  router.get('/changes', (request, response) => {
    if (request.method === 'HEAD') response.type('text/event-stream').end();
    else if (!changes.add(response, async () => problem?.() === undefined && (await mayStayOf(response)())))
      response.status(503).set('Retry-After', '10').type('text/plain').send('too many readers\n');
  });
  return router;
}

function notFound(response: Response): void {
  response.status(404).type('text/plain').send('no such export\n');
}

function keyOf({ params }: Request): string {
  return `${params.namespace}/${params.name}`;
}

function paramsOf({ originalUrl }: Request): URLSearchParams {
  const at = originalUrl.indexOf('?');
  return new URLSearchParams(at < 0 ? '' : originalUrl.slice(at + 1));
}

const DIRECTORY = path.join(import.meta.dirname, 'page');

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.css': 'text/css',
  '.js': 'text/javascript',
  '.svg': 'image/svg+xml',
};

const FILES: Readonly<Record<string, string>> = {
  '/': 'page.html',
  '/page/page.css': 'page.css',
  '/page/page.js': 'page.js',
  '/page/dom.js': 'dom.js',
  '/page/export-row.js': 'export-row.js',
  '/page/schedules.js': 'schedules.js',
  '/page/disk-panel.js': 'disk-panel.js',
  '/page/disk-map.js': 'disk-map.js',
  '/page/format.js': 'format.js',
  '/page/server.js': 'server.js',
  '/page/icon.svg': 'icon.svg',
};

/** Serves the files of the status page and no others. */
function pageAssets(): Router {
  const router = Router();
  for (const [place, name] of Object.entries(FILES)) {
    const body = readFileSync(path.join(DIRECTORY, name));
    const type = `${TYPES[path.extname(name)]}; charset=utf-8`;
    router.get(place, (_request, response: Response) => {
      response.set('Content-Type', type).send(body);
    });
  }
  return router;
}

const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  // Texts of a request cannot become markup, even by a mistake of the page.
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

/** Nothing is loaded from elsewhere, framed, cached or sniffed. */
function securityHeaders(_request: Request, response: Response, next: NextFunction): void {
  response.set({
    'Content-Security-Policy': CONTENT_SECURITY_POLICY,
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cache-Control': 'no-store',
  });
  next();
}
