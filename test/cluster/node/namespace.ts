/** A separate namespace on a node, with kubectl in it, whose commands must succeed. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { CommandResult } from '../../helpers/run-command.ts';
import type { NodeCluster } from '../node-cluster.ts';

export interface Namespace {
  name: string;
  /** @returns its standard output */
  kubectl(...args: string[]): Promise<string>;
  attempt(...args: string[]): Promise<CommandResult>;
  apply(objects: readonly object[]): Promise<void>;
}

let count = 0;

/** Pod Security `restricted` is enforced in it. */
export async function createNamespace(cluster: NodeCluster): Promise<Namespace> {
  count += 1;
  const name = `vms-${count}`;
  const attempt = (...args: string[]) => cluster.kubectl('--namespace', name, ...args);
  const kubectl = async (...args: string[]) => {
    const { code, stdout, stderr } = await attempt(...args);
    assert.equal(code, 0, `kubectl ${args.join(' ')}: ${stderr}`);
    return stdout.toString();
  };
  await kubectl('create', 'namespace', name);
  await kubectl('label', 'namespace', name, 'pod-security.kubernetes.io/enforce=restricted');
  // Pods are refused until the account exists.
  await kubectl('wait', 'serviceaccount/default', '--for=create', '--timeout=30s');
  return {
    name,
    attempt,
    kubectl,
    async apply(objects) {
      const file = path.join(cluster.directory, `objects-${name}.json`);
      writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
      await kubectl('apply', '--filename', file);
    },
  };
}
