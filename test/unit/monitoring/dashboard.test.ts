/**
 * The dashboard kept to the rules of Grafana's dashboard linter (github.com/grafana/dashboard-linter), which go by the
 * same names.
 */

import assert from 'node:assert/strict';
import { METRIC_PREFIX, METRICS, type MetricDeclaration } from '../../../src/metrics/catalogue.ts';
import { CONTROLLER_METRICS } from '../../../src/metrics/controller-catalogue.ts';
import { panelsOf, readDashboard } from '../../helpers/dashboard.ts';
import { selectorsOf } from '../../helpers/promql.ts';

/**
 * Those of Grafana's units that are in use here:
 * https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts
 */
const UNITS = ['bytes', 'short', 'percentunit', 'locale', 'binBps', 'cps', 's', 'dateTimeAsIso'];

const TEMPLATED = '$datasource';

describe('the dashboard', () => {
  const dashboard = readDashboard();
  const panels = panelsOf(dashboard);
  const variables = dashboard.templating.list;
  const targets = panels.flatMap((panel) => (panel.targets ?? []).map((target) => ({ panel, ...target })));
  const variable = (name: string) => variables.find((each) => each.name === name) ?? assert.fail(`no variable ${name}`);

  it('template-datasource-rule: one variable chooses the data source', () => {
    const chosen = variables.filter(({ type }) => type === 'datasource');
    assert.deepEqual(
      chosen.map(({ name, label, query }) => ({ name, label, query })),
      [{ name: 'datasource', label: 'Data source', query: 'prometheus' }],
    );
  });

  for (const [name, label] of [
    ['job', 'Job'],
    ['instance', 'Instance'],
    ['namespace', 'Namespace'],
    ['export', 'Export'],
  ] as const)
    it(`template-${name}-rule: several can be chosen, and all`, () => {
      const { type, label: actual, datasource, multi, allValue } = variable(name);
      assert.deepEqual(
        { type, label: actual, uid: datasource?.uid, multi, allValue },
        { type: 'query', label, uid: TEMPLATED, multi: true, allValue: '.+' },
      );
    });

  it('template-label-promql-rule: variables ask for the labels of metrics that exist', () => {
    for (const { type, query, name } of variables) {
      if (type !== 'query') continue;
      const [, expr = '', label] = /^label_values\((.+), ([a-z_]+)\)$/.exec(query) ?? assert.fail(query);
      const [selector] = selectorsOf(expr);
      const labels = declarationOf(selector?.metric ?? '').labels;
      if (label !== 'job' && label !== 'instance') assert.ok(label !== undefined && labels.includes(label), `${name}: ${query}`);
    }
  });

  it('template-on-time-change-reload-rule: variables are asked for again when the time changes', () => {
    for (const { type, refresh, name } of variables) if (type === 'query') assert.equal(refresh, 2, name);
  });

  it('panel-datasource-rule: panels and their queries use the data source that is chosen', () => {
    for (const { title, datasource, targets: own = [] } of panels)
      for (const uid of [datasource?.uid, ...own.map((target) => target.datasource.uid)]) assert.equal(uid, TEMPLATED, title);
  });

  it('panel-title-description-rule: panels have a title and say what they show', () => {
    for (const { title, description = '' } of panels) assert.match(`${title}: ${description}`, /^[A-Z].*: [A-Z].*\.$/);
    assert.equal(new Set(panels.map(({ title }) => title)).size, panels.length, 'no two have one title');
  });

  it('panel-units-rule: panels have a unit that Grafana knows', () => {
    for (const { title, fieldConfig } of panels) {
      const others = fieldConfig.overrides.flatMap(({ properties }) => properties.filter(({ id }) => id === 'unit'));
      for (const unit of [fieldConfig.defaults.unit, ...others.map(({ value }) => value)]) assert.ok(UNITS.includes(unit ?? ''), title);
    }
  });

  it('panel-no-targets-rule: panels ask something', () => {
    for (const { title, targets: own = [] } of panels) assert.ok(own.length > 0, title);
  });

  it('target-promql-rule: queries are PromQL about metrics that exist, by labels that they have', () => {
    for (const { panel, expr } of targets) {
      const selectors = selectorsOf(expr);
      assert.ok(selectors.length > 0, `${panel.title}: ${expr}`);
      for (const { metric, matchers } of selectors) {
        const known = [...declarationOf(metric).labels, 'job', 'instance'];
        for (const matcher of matchers) assert.ok(known.includes(/^[a-z_]+/.exec(matcher)?.[0] ?? ''), `${panel.title}: ${matcher}`);
      }
    }
  });

  it('target-rate-interval-rule: rates are taken over $__rate_interval, and nothing over a fixed time', () => {
    for (const { panel, expr } of targets)
      for (const { range, caller = '' } of selectorsOf(expr)) {
        if (range === undefined) continue;
        assert.ok(['$__rate_interval', '$__range'].includes(range), `${panel.title}: ${range}`);
        if (/^i?rate$/.test(caller)) assert.equal(range, '$__rate_interval', panel.title);
      }
  });

  it('target-job-rule, target-instance-rule: queries keep to the sidecars, and where they can to the exports, that are chosen', () => {
    for (const { panel, expr } of targets)
      for (const { metric, matchers } of selectorsOf(expr)) {
        const { labels } = declarationOf(metric);
        const wanted = [
          ...['job=~"$job"', 'instance=~"$instance"'],
          ...(labels.includes('export_namespace') ? ['export_namespace=~"$namespace"'] : []),
          ...(labels.includes('export') ? ['export=~"$export"'] : []),
        ];
        assert.deepEqual(matchers.slice(0, wanted.length), wanted, `${panel.title}: ${metric}`);
      }
  });

  it('target-counter-agg-rule: no counter is shown as it stands', () => {
    // The linter asks for rate, irate or increase; of an export that is over, what its counter has reached is what it
    // did.
    for (const { panel, expr } of targets)
      for (const { metric, caller = '' } of selectorsOf(expr))
        if (declarationOf(metric).type === 'counter')
          assert.match(caller, /^(rate|irate|increase|max_over_time)$/, `${panel.title}: ${metric}`);
  });

  it('uneditable-dashboard: it is changed where it is made', () => {
    assert.equal(dashboard.editable, false);
  });

  it('has an identity that lasts, and rows without gaps or overlaps', () => {
    assert.match(dashboard.uid, /^[a-z-]{1,40}$/);
    assert.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length);
    const rows = Map.groupBy(dashboard.panels, ({ gridPos }) => gridPos.y);
    for (const [y, row] of rows) {
      const places = row.toSorted((a, b) => a.gridPos.x - b.gridPos.x).map(({ gridPos }) => gridPos);
      const ends = places.reduce((x, place) => (place.x === x ? x + place.w : Number.NaN), 0);
      assert.equal(ends, 24, `row ${y}`);
    }
  });
});

function declarationOf(metric: string): MetricDeclaration {
  const declarations: MetricDeclaration[] = [...Object.values(METRICS), ...Object.values(CONTROLLER_METRICS)];
  const found = declarations.find(({ name, type }) => metric === `${METRIC_PREFIX}${name}${type === 'histogram' ? '_bucket' : ''}`);
  return found ?? assert.fail(`${metric} is not in the catalogue`);
}
