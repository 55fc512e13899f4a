/** What the sidecar tells over HTTP: metrics, whether it is well, its exports, and the page that shows them. */

import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import { DiskliftError } from '../common/errors.ts';
import type { ExportMetrics } from '../metrics/export-metrics.ts';
import { scrapeFormatOf } from '../metrics/scrape-format.ts';
import { type ApiOptions, apiRoutes } from './api-routes.ts';
import type { Health } from './health.ts';
import { pageAssets } from './page-assets.ts';
import { type Authorize, requireToken } from './require-token.ts';
import { securityHeaders } from './security-headers.ts';

export interface AppOptions extends ApiOptions {
  metrics: Pick<ExportMetrics, 'scrape'>;
  health: Pick<Health, 'liveness' | 'readiness'>;
  /** Who may see metrics and exports; everybody when left out. The probes and the page, which has no facts in it, need no token. */
  authorize?: Authorize | undefined;
  warn(message: string): void;
}

export function createApp(options: AppOptions): Express {
  const { metrics, health, authorize, warn } = options;
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
  app.use(pageAssets());
  app.get('/metrics', requireToken(authorize, 'metrics'), async (request, response) => {
    const { contentType, text } = await metrics.scrape(scrapeFormatOf(request.headers.accept));
    response.set('Content-Type', contentType).vary('Accept').send(text);
  });
  app.use(requireToken(authorize, 'exports'));
  app.use('/api/v1', apiRoutes(options));
  app.use((_request, response) => {
    response.status(404).type('text/plain').send('not found\n');
  });
  app.use((error: unknown, request: Request, response: Response, next: NextFunction) =>
    answerError(error, { request, response, next, warn }),
  );
  return app;
}

/** Without a listener, one response's error would end the process and all its exports. The connection closes in either case. */
function surviveErrors(_request: Request, response: Response, next: NextFunction): void {
  response.on('error', () => response.destroy());
  next();
}

/** Nothing is changed over HTTP, so nothing is taken. */
function readOnly({ method, headers }: Request, response: Response, next: NextFunction): void {
  const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
  if ((method === 'GET' || method === 'HEAD') && !hasBody) {
    next();
    return;
  }
  // What it sends is not read.
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
  // express ends what has begun.
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
