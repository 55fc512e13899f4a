/** An API server with an audit log. */

import { type ApiServer, startApiServer } from './api-server.ts';
import { type AuditedRequest, createAuditLog } from './audit-log.ts';
import { requireBinaries, usesExistingCluster } from './kubernetes-binaries.ts';

export interface AuditedApiServer extends ApiServer {
  /** All requests of a user so far that were answered, in order. */
  askedBy(user: string): AuditedRequest[];
}

/**
 * Skips a suite on an existing cluster, whose audit log cannot be read. Call it in `before`.
 * @param serverFlags further ones of kube-apiserver
 */
export function startAuditedApiServer(context: Mocha.Context, ...serverFlags: string[]): Promise<AuditedApiServer> {
  return start(context, { serverFlags });
}

/** With a controller manager, which makes pods of Jobs and collects garbage. No pod is scheduled. */
export function startAuditedCluster(context: Mocha.Context, ...serverFlags: string[]): Promise<AuditedApiServer> {
  return start(context, { serverFlags, controllerManager: true });
}

interface Options {
  serverFlags: readonly string[];
  controllerManager?: boolean;
}

async function start(context: Mocha.Context, { serverFlags, controllerManager = false }: Options): Promise<AuditedApiServer> {
  if (usesExistingCluster()) return context.skip();
  const binaries = requireBinaries(context);
  const audit = createAuditLog();
  const api = await startApiServer(binaries, { serverFlags: [...audit.flags, ...serverFlags], controllerManager });
  return {
    ...api,
    askedBy: (user) => audit.requests().filter((request) => request.user === user),
    async stop() {
      await api.stop();
      audit[Symbol.dispose]();
    },
  };
}
