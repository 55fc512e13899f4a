import assert from 'node:assert/strict';
import { selectorsOf } from '../../helpers/promql.ts';

describe('selectorsOf', () => {
  it('finds each metric with its matchers, its range and the function around it', () => {
    assert.deepEqual(selectorsOf('sum by (a) (rate(x_total{a=~"$a", b="1"}[$__rate_interval])) / max_over_time(y[5m]) - time() + z'), [
      { metric: 'x_total', matchers: ['a=~"$a"', 'b="1"'], range: '$__rate_interval', caller: 'rate' },
      { metric: 'y', matchers: [], range: '5m', caller: 'max_over_time' },
      { metric: 'z', matchers: [] },
    ]);
  });

  for (const expr of ['sum(x', 'rate(x[])', 'x{a=}', 'x y', ''])
    it(`takes no ${expr || 'nothing'}`, () => assert.throws(() => selectorsOf(expr)));
});
