/** What the sidecar tells over HTTP: metrics and whether it is well. */

import express, { type Express } from 'express';

/** Of prom-client's registry, what is needed here. */
interface MetricsText {
  readonly contentType: string;
  metrics(): Promise<string>;
}

export interface AppOptions {
  registry: MetricsText;
  /** Why requests are not served now, or undefined when they are. */
  unreadiness(): string | undefined;
}

export function createApp({ registry, unreadiness }: AppOptions): Express {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.get('/metrics', async (_request, response) => {
    response.type(registry.contentType).send(await registry.metrics());
  });
  app.get('/livez', (_request, response) => {
    response.type('text/plain').send('ok\n');
  });
  app.get('/readyz', (_request, response) => {
    const reason = unreadiness();
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
