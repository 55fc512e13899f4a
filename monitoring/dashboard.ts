/** The Grafana dashboard, built from the table of its panels. */

import {
  BigValueColorMode,
  BigValueGraphMode,
  GraphDrawStyle,
  HeatmapCellLayout,
  LegendDisplayMode,
  ReduceDataOptionsBuilder,
  StackingConfigBuilder,
  StackingMode,
  VizLegendOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import {
  DashboardBuilder,
  DashboardCursorSync,
  DatasourceVariableBuilder,
  type DataTransformerConfig,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
  VariableSort,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { PanelBuilder as HeatmapBuilder, RowsHeatmapOptionsBuilder, YAxisConfigBuilder } from '@grafana/grafana-foundation-sdk/heatmap';
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as TableBuilder } from '@grafana/grafana-foundation-sdk/table';
import { PanelBuilder as TimeseriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries';
import { metric } from './expressions.ts';
import { ROWS } from './panels.ts';
import type { Panel } from './row.ts';

const DATA_SOURCE = { type: 'prometheus', uid: '$datasource' };

/** Heights in rows of the grid. */
const HEIGHT = { stat: 4, other: 8 };

/** Windows of increase() overlap if they are longer than the step between two bars. At this step they hardly do. */
const BAR_INTERVAL = '2m';

const REF_IDS = 'ABCDEFGH';

/** The methods that every builder of a panel has. */
type Builder = { [Method in 'id' | 'height' | 'span' | 'min' | 'max']: (value: number) => Builder } & {
  [Method in 'title' | 'description' | 'unit' | 'noValue']: (text: string) => Builder;
} & {
  datasource(source: typeof DATA_SOURCE): Builder;
  withTarget(target: DataqueryBuilder): Builder;
};

function queries({ kind, targets }: Panel): DataqueryBuilder[] {
  return targets.map(({ expr, legend }, index) => {
    const query = new DataqueryBuilder().datasource(DATA_SOURCE).refId(REF_IDS.charAt(index)).expr(expr).legendFormat(legend);
    if (kind === 'stat') return query.instant();
    if (kind === 'table') return query.instant().format(PromQueryFormat.Table);
    return query.range().format(kind === 'heatmap' ? PromQueryFormat.Heatmap : PromQueryFormat.TimeSeries);
  });
}

function withFacts<B extends Builder>(builder: B, panel: Panel, id: number): B {
  const { kind, title, description, unit, width, max, none } = panel;
  builder.id(id).title(title).description(description).datasource(DATA_SOURCE).unit(unit).min(0).span(width);
  builder.height(kind === 'stat' ? HEIGHT.stat : HEIGHT.other);
  if (max !== undefined) builder.max(max);
  if (none !== undefined) builder.noValue(none);
  for (const query of queries(panel)) builder.withTarget(query);
  return builder;
}

function stat(): StatBuilder {
  return new StatBuilder()
    .reduceOptions(new ReduceDataOptionsBuilder().calcs(['lastNotNull']))
    .graphMode(BigValueGraphMode.None)
    .colorMode(BigValueColorMode.None);
}

function timeseries(): TimeseriesBuilder {
  return new TimeseriesBuilder()
    .fillOpacity(10)
    .legend(new VizLegendOptionsBuilder().displayMode(LegendDisplayMode.List).showLegend(true).calcs([]));
}

function bars(): TimeseriesBuilder {
  return timeseries()
    .drawStyle(GraphDrawStyle.Bars)
    .fillOpacity(80)
    .interval(BAR_INTERVAL)
    .stacking(new StackingConfigBuilder().mode(StackingMode.Normal));
}

function heatmap({ unit }: Panel): HeatmapBuilder {
  return new HeatmapBuilder()
    .interval(BAR_INTERVAL)
    .rowsFrame(new RowsHeatmapOptionsBuilder().layout(HeatmapCellLayout.Le))
    .yAxis(new YAxisConfigBuilder().unit(unit));
}

/** Each query gives a column of values. The columns are joined by common labels. */
function table({ targets }: Panel): TableBuilder {
  const columnOf = (index: number) => (targets.length === 1 ? 'Value' : `Value #${REF_IDS.charAt(index)}`);
  const titles = Object.fromEntries(targets.map(({ legend }, index) => [columnOf(index), legend]));
  const transformations: DataTransformerConfig[] = [
    { id: 'merge', options: {} },
    { id: 'organize', options: { excludeByName: { Time: true }, renameByName: { ...titles, export_namespace: 'namespace' } } },
  ];
  const builder = new TableBuilder().transformations(transformations);
  for (const { legend, unit } of targets) if (unit !== undefined) builder.overrideByName(legend, [{ id: 'unit', value: unit }]);
  return builder;
}

function build(panel: Panel, id: number) {
  switch (panel.kind) {
    case 'stat':
      return withFacts(stat(), panel, id);
    case 'timeseries':
      return withFacts(timeseries(), panel, id);
    case 'bars':
      return withFacts(bars(), panel, id);
    case 'heatmap':
      return withFacts(heatmap(panel), panel, id);
    case 'table':
      return withFacts(table(panel), panel, id);
  }
}

function queryVariable(name: string, label: string, query: string): QueryVariableBuilder {
  return new QueryVariableBuilder(name)
    .label(label)
    .datasource(DATA_SOURCE)
    .query(query)
    .definition(query)
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.AlphabeticalAsc)
    .multi(true)
    .includeAll(true)
    .allValue('.+')
    .current({ text: 'All', value: '$__all' });
}

const SIDECARS = metric('build_info');
/** The scan counts first, so this metric exists for every export. */
const EXPORTS = metric('scanned_clusters_total');

const VARIABLES = [
  new DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'),
  queryVariable('job', 'Job', `label_values(${SIDECARS}, job)`),
  queryVariable('instance', 'Instance', `label_values(${SIDECARS}{job=~"$job"}, instance)`),
  queryVariable('namespace', 'Namespace', `label_values(${EXPORTS}{job=~"$job", instance=~"$instance"}, export_namespace)`),
  queryVariable('export', 'Export', `label_values(${EXPORTS}{job=~"$job", instance=~"$instance", export_namespace=~"$namespace"}, export)`),
];

/** @returns the dashboard as JSON for Grafana */
export function dashboardFile(): string {
  const builder = new DashboardBuilder('disklift')
    .uid('disklift-exports')
    .description('Exports of VM disks: what runs, how fast, what was skipped and written, and what failed.')
    .tags(['disklift'])
    .readonly()
    .refresh('30s')
    .tooltip(DashboardCursorSync.Crosshair)
    .time({ from: 'now-3h', to: 'now' })
    .timezone('browser')
    .variables(VARIABLES);
  let id = 0;
  for (const { title, panels } of ROWS) {
    id += 1;
    builder.withRow(new RowBuilder(title).id(id));
    for (const panel of panels) {
      id += 1;
      builder.withPanel(build(panel, id));
    }
  }
  return `${JSON.stringify(builder.build(), null, 2)}\n`;
}
