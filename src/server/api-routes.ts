/** /api/v1: exports as JSON, and changes of them as they come. */

import { type Request, type Response, Router } from 'express';
import type { ChangeStream } from './change-stream.ts';
import type { ExportBoard } from './export-board.ts';
import { parseQuery, queryExports } from './query-exports.ts';
import { mayStayOf } from './require-token.ts';

export interface ApiOptions {
  board: ExportBoard;
  changes: ChangeStream;
  /** Of the program. */
  version: string;
}

export function apiRoutes({ board, changes, version }: ApiOptions): Router {
  const router = Router();
  router.get('/exports', (request, response) => {
    const query = parseQuery(paramsOf(request));
    response.json({ version, ...queryExports(board, query), offset: query.offset, limit: query.limit });
  });
  router.get('/exports/:namespace/:name', (request, response) => {
    const view = board.get(keyOf(request));
    if (view === undefined) notFound(response);
    else response.json(view);
  });
  router.get('/exports/:namespace/:name/map', (request, response) => {
    const map = board.mapOf(keyOf(request), paramsOf(request).get('disk') ?? '');
    if (map === undefined) response.status(204).end();
    else response.json(map);
  });
  router.get('/changes', (request, response) => {
    if (request.method === 'HEAD') response.type('text/event-stream').end();
    else if (!changes.add(response, mayStayOf(response)))
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
