import { DESTINATIONS } from '../helpers/destinations/all-destinations.ts';
import { requireDestination } from '../helpers/destinations/require-destination.ts';
import { itIsAnExportTarget } from './export-target.ts';

describe('export target', () => {
  for (const destination of DESTINATIONS)
    describe(destination.name, () => {
      before(function () {
        requireDestination(destination, this);
      });
      itIsAnExportTarget(destination);
    });
});
