/** The row of the dashboard about incremental images. */

import { chosen } from './expressions.ts';
import type { Row } from './row.ts';

const RATE = '[$__rate_interval]';

export const INCREMENTAL_ROW: Row = {
  title: 'Incremental images',
  panels: [
    {
      kind: 'bars',
      title: 'Images by type',
      description: 'Images of exports with spec.incremental that arrived in the interval of each bar, by type and the reason for it.',
      unit: 'short',
      width: 14,
      none: 'no image of such an export',
      targets: [
        {
          expr: `round(sum by (type, reason) (increase(${chosen('images_total')}${RATE}))) > 0`,
          legend: '{{type}} {{reason}}',
        },
      ],
    },
    {
      kind: 'bars',
      title: 'Changed bytes',
      description: 'Bytes of disks that incremental images hold, zeros included, in the interval of each bar.',
      unit: 'bytes',
      width: 10,
      none: 'no incremental image',
      targets: [
        {
          expr: `sum by (destination) (increase(${chosen('incremental_changed_bytes_total')}${RATE})) > 0`,
          legend: '{{destination}}',
        },
      ],
    },
  ],
};
