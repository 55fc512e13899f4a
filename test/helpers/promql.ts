/** PromQL, parsed by Prometheus' own grammar. */

import assert from 'node:assert/strict';
import { parser } from '@prometheus-io/lezer-promql';

type Node = ReturnType<typeof parser.parse>['topNode'];

export interface Selector {
  metric: string;
  /** Each in its notation: `job=~"$job"`. */
  matchers: string[];
  /** The duration in brackets. */
  range?: string;
  /** The function around the range. */
  caller?: string;
}

/** Replacements for Grafana's own variables; each has another duration, so that they stay distinguishable. */
const DURATIONS: Record<string, string> = { $__rate_interval: '111s', $__range: '222s', $__interval: '333s' };

/** Every vector selector of an expression; variables of a dashboard may stand where text or a duration does. */
export function selectorsOf(expr: string): Selector[] {
  let text = expr;
  for (const [name, duration] of Object.entries(DURATIONS)) text = text.replaceAll(name, duration);
  const selectors: Selector[] = [];
  parser.parse(text).iterate({
    enter({ type, node }) {
      assert.ok(!type.isError, `${expr}: not PromQL at ${node.from}`);
      if (type.name === 'VectorSelector') selectors.push(read(node, text));
    },
  });
  return selectors;
}

function read(node: Node, text: string): Selector {
  const textOf = ({ from, to }: Node) => text.slice(from, to);
  const metric = node.getChild('Identifier');
  const matchers = node.getChild('LabelMatchers')?.getChildren('UnquotedLabelMatcher') ?? [];
  const { parent } = node;
  const isRange = parent?.name === 'MatrixSelector';
  const range = isRange ? text.slice(node.to, parent.to).slice(1, -1) : undefined;
  const caller = isRange ? parent.parent?.parent?.getChild('FunctionIdentifier') : undefined;
  const named = Object.entries(DURATIONS).find(([, duration]) => duration === range)?.[0];
  return {
    metric: metric === null ? '' : textOf(metric),
    matchers: matchers.map(textOf),
    ...(range === undefined ? {} : { range: named ?? range }),
    ...(caller ? { caller: textOf(caller) } : {}),
  };
}
