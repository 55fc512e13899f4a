import { requireDestination } from '../helpers/destinations/require-destination.ts';
import { S3_DESTINATIONS } from '../helpers/destinations/s3-destinations.ts';
import { itIsAnExportTarget } from './export-target.ts';

describe('export target', () => {
  for (const destination of S3_DESTINATIONS)
    describe(destination.name, () => {
      before(function () {
        requireDestination(destination, this);
      });
      itIsAnExportTarget(destination);
    });
});
