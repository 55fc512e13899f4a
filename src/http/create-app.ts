/** What the sidecar tells over HTTP: metrics and whether it is well. */

import express, { type Express } from 'express';
import type { ExportMetrics } from '../metrics/export-metrics.ts';

export interface AppOptions {
  metrics: Pick<ExportMetrics, 'scrape'>;
  /** Why requests are not served now, or undefined when they are. */
  unreadiness(): string | undefined;
  /** Why this process will not get well by itself, or undefined as long as it may. */
  illness(): string | undefined;
}

/** As Prometheus asks: by the media type that it likes best. */
const OPEN_METRICS = 'application/openmetrics-text';

export function createApp({ metrics, unreadiness, illness }: AppOptions): Express {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.get('/metrics', async (request, response) => {
    const isOpen = request.accepts('text/plain', OPEN_METRICS) === OPEN_METRICS;
    const { contentType, text } = await metrics.scrape(isOpen ? 'openmetrics' : 'prometheus');
    response.set('Content-Type', contentType).vary('Accept').send(text);
  });
  for (const [place, problem] of [
    ['/livez', illness],
    ['/readyz', unreadiness],
  ] as const)
    app.get(place, (_request, response) => {
      const reason = problem();
      response
        .status(reason === undefined ? 200 : 503)
        .type('text/plain')
        .send(`${reason ?? 'ok'}\n`);
    });
  app.use((_request, response) => {
    response.status(404).type('text/plain').send('not found\n');
  });
  return app;
}
