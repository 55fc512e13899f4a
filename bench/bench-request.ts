/** The requests of the benches. */

import path from 'node:path';
import { diskExport, type Manifest } from '../test/helpers/manifest.ts';

/** A request for a disk on the claim `bench`, whose volume is the disk's directory. */
export function benchRequest(name: string, disk: string, destination: object, checksum: string): Manifest {
  const source = { persistentVolumeClaim: { claimName: 'bench' }, disks: [{ path: path.basename(disk) }] };
  return diskExport(name, destination, { source, checksum, backoffLimit: 0 });
}

/** The volume of that claim, as the command line has it. */
export function benchVolume(disk: string): string {
  return `bench=${path.dirname(disk)}`;
}
