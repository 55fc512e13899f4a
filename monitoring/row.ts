/** A row of the dashboard and its panels, in the terms of this project. */

interface PanelTarget {
  expr: string;
  /** In a table: the title of the column of values. */
  legend: string;
  /** Unit of a table's column, if it differs from the panel's unit. */
  unit?: string;
}

export interface Panel {
  kind: 'stat' | 'timeseries' | 'bars' | 'heatmap' | 'table';
  title: string;
  description: string;
  /**
   * As Grafana names them:
   * https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts
   */
  unit: string;
  /** Columns of the grid, which has 24. */
  width: number;
  targets: readonly PanelTarget[];
  /** Maximum of the axis of values. */
  max?: number;
  /** Text in place of an empty graph or table. */
  none?: string;
}

export interface Row {
  title: string;
  panels: readonly Panel[];
}
