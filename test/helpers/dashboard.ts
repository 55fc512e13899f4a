/** The shipped dashboard, and the parts of it that the tests read. */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { DASHBOARD_FILE } from '../tools/generate-monitoring.ts';

interface DataSource {
  type: string;
  uid: string;
}

interface Target {
  refId: string;
  expr: string;
  legendFormat: string;
  datasource: DataSource;
  instant?: boolean;
}

export interface DashboardPanel {
  id: number;
  type: string;
  title: string;
  description?: string;
  datasource?: DataSource;
  /** The minimum step between two values. */
  interval?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  fieldConfig: {
    defaults: { unit?: string; max?: number; custom?: { drawStyle?: string } };
    overrides: { matcher: { options: string }; properties: { id: string; value: string }[] }[];
  };
  targets?: Target[];
}

interface Variable {
  name: string;
  type: string;
  label: string;
  query: string;
  datasource?: DataSource;
  refresh?: number;
  multi?: boolean;
  allValue?: string;
}

interface Dashboard {
  uid: string;
  title: string;
  editable: boolean;
  templating: { list: Variable[] };
  panels: DashboardPanel[];
}

export function readDashboard(): Dashboard {
  return JSON.parse(readFileSync(path.join(import.meta.dirname, '..', '..', DASHBOARD_FILE), 'utf8'));
}

/** The panels without the titles of rows. */
export function panelsOf({ panels }: Dashboard): DashboardPanel[] {
  return panels.filter(({ type }) => type !== 'row');
}

/** The query that Grafana sends when all instances are selected and the time range has this length. */
export function expand(expr: string, rangeSeconds: number, rateIntervalSeconds = rangeSeconds): string {
  return expr
    .replaceAll('$__range', `${rangeSeconds}s`)
    .replaceAll('$__rate_interval', `${rateIntervalSeconds}s`)
    .replaceAll(/\$(job|instance|namespace|export)\b/g, '.+');
}
