/** An API server with an audit log. */

import { type ApiServer, type ApiServerOptions, startApiServer } from './api-server.ts';
import { type AuditedRequest, createAuditLog } from './audit-log.ts';
import { requireBinaries, usesExistingCluster } from './kubernetes-binaries.ts';

export interface AuditedApiServer extends ApiServer {
  /** All requests of a user so far that were answered, in order. */
  askedBy(user: string): AuditedRequest[];
  /** All of them. */
  requests(): AuditedRequest[];
}

/**
 * Skips a suite on an existing cluster, whose audit log cannot be read. Call it in `before`.
 * @param serverFlags further ones of kube-apiserver
 */
export function startAuditedApiServer(context: Mocha.Context, ...serverFlags: string[]): Promise<AuditedApiServer> {
  return startAudited(context, { serverFlags });
}

/** With a controller manager, which makes pods of Jobs and collects garbage. No pod is scheduled. */
export function startAuditedCluster(context: Mocha.Context, ...serverFlags: string[]): Promise<AuditedApiServer> {
  return startAudited(context, { serverFlags, controllerManager: true });
}

/** As {@link startAuditedApiServer}, with any options. */
export async function startAudited(context: Mocha.Context, options: ApiServerOptions): Promise<AuditedApiServer> {
  if (usesExistingCluster()) return context.skip();
  const binaries = requireBinaries(context);
  const audit = createAuditLog();
  const api = await startApiServer(binaries, { ...options, serverFlags: [...audit.flags, ...(options.serverFlags ?? [])] });
  return {
    ...api,
    requests: audit.requests,
    askedBy: (user) => audit.requests().filter((request) => request.user === user),
    async stop() {
      await api.stop();
      audit[Symbol.dispose]();
    },
  };
}
