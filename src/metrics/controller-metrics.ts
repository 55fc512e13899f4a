/** Metrics of the process of the controller. */

import type { ScheduleObserver } from '../controller/schedules/observer.ts';
import { createControllerRegistry } from './catalogue.ts';
import { measureProcess } from './process-metrics.ts';
import { createScheduleSeries } from './schedule-series.ts';
import { type Scrape, type ScrapeFormat, scrapeRegistry } from './scrape.ts';

export interface ControllerMetrics {
  scrape(format: ScrapeFormat): Promise<Scrape>;
  leads(isLeading: boolean): void;
  /** Keeps the series of each schedule. */
  readonly schedules: ScheduleObserver;
}

export function createControllerMetrics(version: string): ControllerMetrics {
  const { registry, metrics } = createControllerRegistry();
  measureProcess(registry);
  metrics.buildInfo.set({ version }, 1);
  metrics.leader.set(0);
  return {
    scrape: (format) => scrapeRegistry(registry, format),
    leads: (isLeading) => metrics.leader.set(isLeading ? 1 : 0),
    schedules: createScheduleSeries(metrics),
  };
}
