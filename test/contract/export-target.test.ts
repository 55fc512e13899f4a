import { HTTP_DESTINATIONS } from '../helpers/destinations/http-destinations.ts';
import { itIsAnExportTarget } from './export-target.ts';

describe('export target', () => {
  for (const destination of HTTP_DESTINATIONS)
    describe(destination.name, () => {
      itIsAnExportTarget(destination);
    });
});
