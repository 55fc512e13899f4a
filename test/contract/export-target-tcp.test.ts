import { requireDestination } from '../helpers/destinations/require-destination.ts';
import { TCP_DESTINATIONS } from '../helpers/destinations/tcp-destinations.ts';
import { itIsAnExportTarget } from './export-target.ts';

describe('export target', () => {
  for (const destination of TCP_DESTINATIONS)
    describe(destination.name, () => {
      before(function () {
        requireDestination(destination, this);
      });
      itIsAnExportTarget(destination);
    });
});
