import assert from 'node:assert/strict';
import { scrapeFormatOf } from '../../../src/metrics/scrape.ts';

describe('the format of a scrape', () => {
  const rows: [who: string, accept: string | undefined, format: string][] = [
    [
      'Prometheus 2.42',
      'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
      'openmetrics',
    ],
    [
      'Prometheus 3',
      'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2',
      'openmetrics',
    ],
    [
      'Prometheus 3 that likes the text format best',
      'text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.2',
      'prometheus',
    ],
    ['Prometheus 1', 'text/plain;version=0.0.4;q=1,*/*;q=0.1', 'prometheus'],
    ['curl', '*/*', 'prometheus'],
    ['a client that says nothing', undefined, 'prometheus'],
    ['a browser', 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'prometheus'],
    ['a person who names OpenMetrics', 'application/openmetrics-text', 'openmetrics'],
    ['a person who names it in capitals and with spaces', 'Application/OpenMetrics-Text ; version="1.0.0" ; q=0.3', 'openmetrics'],
    ['a client that refuses OpenMetrics', 'application/openmetrics-text;q=0, text/plain', 'prometheus'],
    ['a client that knows an old OpenMetrics only', 'application/openmetrics-text;version=0.0.1', 'prometheus'],
    ['a client with a quality that is none', 'application/openmetrics-text;q=x', 'prometheus'],
  ];
  for (const [who, accept, format] of rows)
    it(`${who} receives ${format}`, () => {
      assert.equal(scrapeFormatOf(accept), format);
    });
});
