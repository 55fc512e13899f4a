import { DESTINATIONS } from '../helpers/destinations/all-destinations.ts';
import { itIsAnExportTarget } from './export-target.ts';

describe('export target', () => {
  for (const destination of DESTINATIONS)
    describe(destination.name, () => {
      itIsAnExportTarget(destination);
    });
});
