/** The requests that an API server received, with user and status, from the server's own audit log. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export interface AuditedRequest {
  user: string;
  verb: string;
  /** In the words of RBAC: `diskexports`, `diskexports/status`. */
  resource: string;
  namespace: string;
  name: string | undefined;
  /** HTTP status of the answer. */
  status: number;
  /** Whether the user lacks the right. A quota answers 403 too. */
  isForbidden: boolean;
}

export interface AuditLog extends Disposable {
  /** Flags of kube-apiserver. */
  readonly flags: readonly string[];
  /** All requests answered so far, in order; a watch counts when it begins. */
  requests(): AuditedRequest[];
}

/** Leaves out requests of the controllers, which no test counts. */
const RULES = [
  { level: 'None', users: ['system:apiserver', 'system:kube-controller-manager'] },
  { level: 'None', userGroups: ['system:serviceaccounts:kube-system'] },
];
const EVERYBODY = [...RULES, { level: 'Metadata' }];
/** Requests of ServiceAccounts: on a node those of the sidecars, and not of the kubelet. */
const ACCOUNTS = [...RULES, { level: 'Metadata', userGroups: ['system:serviceaccounts'] }, { level: 'None' }];

const LOG = 'audit.log';

/** Fields of an audit.k8s.io/v1 Event. */
interface Line {
  auditID: string;
  verb: string;
  user: { username: string };
  objectRef?: { resource: string; subresource?: string; namespace?: string; name?: string };
  responseStatus?: { code: number };
  annotations?: Readonly<Record<string, string>>;
}

export function createAuditLog(): AuditLog {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-audit-'));
  return {
    flags: writePolicy(directory, EVERYBODY),
    requests: () => requestsIn(directory),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** For an API server that another process starts. @returns the flags of kube-apiserver */
export function auditOfAccounts(directory: string): readonly string[] {
  return writePolicy(directory, ACCOUNTS);
}

function writePolicy(directory: string, rules: readonly object[]): readonly string[] {
  const [policy, log] = [path.join(directory, 'audit-policy.json'), path.join(directory, LOG)];
  writeFileSync(policy, JSON.stringify({ apiVersion: 'audit.k8s.io/v1', kind: 'Policy', omitStages: ['RequestReceived'], rules }));
  writeFileSync(log, '');
  return [`--audit-policy-file=${policy}`, `--audit-log-path=${log}`, '--audit-log-mode=blocking'];
}

/** @param directory where the log lies */
export function requestsIn(directory: string): AuditedRequest[] {
  // A watch has two lines: one when it begins and one when it ends. The last line may be incomplete.
  const lines = readFileSync(path.join(directory, LOG), 'utf8').split('\n').slice(0, -1);
  const byId = new Map<string, AuditedRequest>();
  for (const line of lines) {
    const each = JSON.parse(line) as Line;
    if (!byId.has(each.auditID)) byId.set(each.auditID, requestOf(each));
  }
  return [...byId.values()];
}

function requestOf({ verb, user, objectRef, responseStatus, annotations }: Line): AuditedRequest {
  const { resource = '', subresource, namespace = '', name } = objectRef ?? {};
  return {
    user: user.username,
    verb,
    resource: subresource === undefined ? resource : `${resource}/${subresource}`,
    namespace,
    name,
    status: responseStatus?.code ?? 0,
    isForbidden: annotations?.['authorization.k8s.io/decision'] === 'forbid',
  };
}
