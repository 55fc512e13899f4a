import { HTTP_DESTINATIONS } from '../helpers/destinations/http-destinations.ts';
import { requireDestination } from '../helpers/destinations/require-destination.ts';
import { itIsAnExportTarget } from './export-target.ts';

describe('export target', () => {
  for (const destination of HTTP_DESTINATIONS)
    describe(destination.name, () => {
      before(function () {
        requireDestination(destination, this);
      });
      itIsAnExportTarget(destination);
    });
});
