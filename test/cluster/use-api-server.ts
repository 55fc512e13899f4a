/** One API server for all files of a process: started for the first suite that needs it, stopped after the last. */

import { type ApiServer, startApiServer } from './api-server.ts';
import { requireBinaries } from './kubernetes-binaries.ts';

let shared: Promise<ApiServer> | undefined;

// Test files import this module at their top level, so the hook belongs to the whole run.
after(async () => {
  if (shared !== undefined) await (await shared).stop();
});

/**
 * Skips the suite where there is no API server. Call it in `before`. A suite that kills the server or changes it for
 * others starts one of its own with {@link startApiServer}.
 */
export async function useApiServer(context: Mocha.Context): Promise<ApiServer> {
  const binaries = requireBinaries(context);
  shared ??= startApiServer(binaries);
  return shared;
}
