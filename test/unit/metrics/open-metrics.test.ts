import assert from 'node:assert/strict';
import { toOpenMetrics } from '../../../src/metrics/scrape.ts';

const CLASSIC = `# HELP x_sent_bytes_total Says "bytes".
# TYPE x_sent_bytes_total counter
x_sent_bytes_total{disk="a_total.img",label="# TYPE y counter"} 5

# HELP x_time_seconds Time.
# TYPE x_time_seconds histogram
x_time_seconds_bucket{le="1",result="le=\\"2\\""} 0
x_time_seconds_bucket{le="0.5"} 0
x_time_seconds_bucket{le="+Inf"} 0
x_time_seconds_sum 0
x_time_seconds_count 0

# HELP x_active Running.
# TYPE x_active gauge
x_active 0
`;

describe('toOpenMetrics', () => {
  it('calls counters without _total, tells units, writes bounds as they must be and says where it ends', () => {
    const units = new Map([
      ['x_sent_bytes_total', 'bytes'],
      ['x_time_seconds', 'seconds'],
      ['x_active', 'exports'],
    ]);
    assert.equal(
      toOpenMetrics(CLASSIC, units),
      `# HELP x_sent_bytes Says \\"bytes\\".
# TYPE x_sent_bytes counter
# UNIT x_sent_bytes bytes
x_sent_bytes_total{disk="a_total.img",label="# TYPE y counter"} 5
# HELP x_time_seconds Time.
# TYPE x_time_seconds histogram
# UNIT x_time_seconds seconds
x_time_seconds_bucket{le="1.0",result="le=\\"2\\""} 0
x_time_seconds_bucket{le="0.5"} 0
x_time_seconds_bucket{le="+Inf"} 0
x_time_seconds_sum 0
x_time_seconds_count 0
# HELP x_active Running.
# TYPE x_active gauge
x_active 0
# EOF
`,
    );
  });
});
