/** The metrics of a controller that leads a made-up fleet, served by HTTP: for tests of queries, without a cluster. */

import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { systemClock } from '../../src/common/clock.ts';
import { type ControllerMetrics, createControllerMetrics, type FleetFacts } from '../../src/metrics/controller-metrics.ts';
import { scrapeFormatOf } from '../../src/metrics/scrape.ts';

export interface ControllerPage extends AsyncDisposable {
  metrics: ControllerMetrics;
  /** `HOST:PORT`, the label `instance` of its metrics. */
  instance: string;
}

export async function startControllerPage(version: string, facts: FleetFacts): Promise<ControllerPage> {
  const metrics = createControllerMetrics({ version, clock: systemClock, facts: () => facts, silenceMs: () => 0 });
  metrics.leads(true);
  const server = http.createServer((request, response) => {
    metrics.scrape(scrapeFormatOf(request.headers.accept)).then(
      ({ contentType, text }) => response.writeHead(200, { 'content-type': contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    metrics,
    instance: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
