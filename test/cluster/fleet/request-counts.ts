/** How many requests one user sent, from the audit log of the API server. */

import { createReadStream, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';

/** Fields of an audit.k8s.io/v1 Event. */
interface Line {
  stage: string;
  verb: string;
  user: { username: string };
  objectRef?: { resource: string; subresource?: string };
}

/** Larger than any run: a log that is rotated would lose its beginning. */
const MAX_LOG_MEGABYTES = 100_000;

/** @returns the flags of kube-apiserver for a log of the requests of one user */
export function auditOf(directory: string, user: string): readonly string[] {
  mkdirSync(directory, { recursive: true });
  const [policy, log] = [path.join(directory, 'audit-policy.json'), logOf(directory)];
  const rules = [{ level: 'Metadata', users: [user], omitManagedFields: true }, { level: 'None' }];
  writeFileSync(policy, JSON.stringify({ apiVersion: 'audit.k8s.io/v1', kind: 'Policy', omitStages: ['RequestReceived'], rules }));
  writeFileSync(log, '');
  return [
    `--audit-policy-file=${policy}`,
    `--audit-log-path=${log}`,
    '--audit-log-mode=blocking',
    `--audit-log-maxsize=${MAX_LOG_MEGABYTES}`,
  ];
}

/** @returns the counts by `VERB RESOURCE` */
export async function countRequests(directory: string): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for await (const text of createInterface({ input: createReadStream(logOf(directory)) })) {
    const { stage, verb, objectRef } = JSON.parse(text) as Line;
    // A watch has two lines: one when it begins and one when it ends.
    if (verb === 'watch' ? stage !== 'ResponseStarted' : stage === 'ResponseStarted') continue;
    const { resource = '', subresource } = objectRef ?? {};
    const name = `${verb} ${resource}${subresource === undefined ? '' : `/${subresource}`}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

function logOf(directory: string): string {
  return path.join(directory, 'audit.log');
}
