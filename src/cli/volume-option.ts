/** `NAME=PATH`: a claim, and where it is on this machine. */

import path from 'node:path';
import { DiskliftError } from '../common/errors.ts';

/** @throws DiskliftError `InvalidRequest` */
export function parseVolumes(entries: readonly string[]): Map<string, string> {
  const volumes = new Map<string, string>();
  for (const entry of entries) {
    const [, name, place] = /^([^=]+)=(.+)$/.exec(entry) ?? [];
    if (name === undefined || place === undefined)
      throw new DiskliftError('InvalidRequest', `--volume ${entry}: NAME=PATH is expected, a claim and where it is mounted`);
    if (volumes.has(name)) throw new DiskliftError('InvalidRequest', `--volume ${entry}: ${name} is given twice`);
    volumes.set(name, path.resolve(place));
  }
  return volumes;
}
