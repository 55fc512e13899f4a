/** What an API server was asked, by whom, and what it answered: as the server itself has noted it. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export interface AuditedRequest {
  user: string;
  verb: string;
  /** As RBAC has it: `diskexports`, `diskexports/status`. */
  resource: string;
  namespace: string;
  name: string | undefined;
  /** HTTP status of the answer. */
  status: number;
}

export interface AuditLog extends Disposable {
  /** Of kube-apiserver. */
  readonly flags: readonly string[];
  /** All requests so far that were answered, in order; of a watch its beginning is what counts. */
  requests(): AuditedRequest[];
}

/** Those that nodes and controllers ask make no difference to anybody here. */
const POLICY = {
  apiVersion: 'audit.k8s.io/v1',
  kind: 'Policy',
  omitStages: ['RequestReceived'],
  rules: [
    { level: 'None', users: ['system:apiserver', 'system:kube-controller-manager'] },
    { level: 'None', userGroups: ['system:serviceaccounts:kube-system'] },
    { level: 'Metadata' },
  ],
};

/** Of audit.k8s.io/v1 Event. */
interface Line {
  auditID: string;
  verb: string;
  user: { username: string };
  objectRef?: { resource: string; subresource?: string; namespace?: string; name?: string };
  responseStatus?: { code: number };
}

export function createAuditLog(): AuditLog {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-audit-'));
  const [policy, log] = [path.join(directory, 'policy.json'), path.join(directory, 'audit.log')];
  writeFileSync(policy, JSON.stringify(POLICY));
  writeFileSync(log, '');
  return {
    flags: [`--audit-policy-file=${policy}`, `--audit-log-path=${log}`, '--audit-log-mode=blocking'],
    requests() {
      // A watch is there twice: when it begins and when it ends. The last line may be half written.
      const lines = readFileSync(log, 'utf8').split('\n').slice(0, -1);
      const byId = new Map<string, AuditedRequest>();
      for (const line of lines) {
        const each = JSON.parse(line) as Line;
        if (!byId.has(each.auditID)) byId.set(each.auditID, requestOf(each));
      }
      return [...byId.values()];
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}

function requestOf({ verb, user, objectRef, responseStatus }: Line): AuditedRequest {
  const { resource = '', subresource, namespace = '', name } = objectRef ?? {};
  return {
    user: user.username,
    verb,
    resource: subresource === undefined ? resource : `${resource}/${subresource}`,
    namespace,
    name,
    status: responseStatus?.code ?? 0,
  };
}
