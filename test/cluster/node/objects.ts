/** All objects of a cluster, by which a test sees what is left. */

import assert from 'node:assert/strict';
import path from 'node:path';
import type { NodeCluster } from '../node-cluster.ts';

/** The kubelet makes this whenever it comes to it. */
const OF_KUBELET = /^Lease kube-node-lease /;

/** @returns `KIND NAMESPACE NAME` of each, sorted */
export async function objectsOf(cluster: NodeCluster, without: readonly string[]): Promise<string[]> {
  const kubectl = async (...args: string[]) => {
    const { code, stdout, stderr } = await cluster.run(path.join(cluster.binaries, 'kubectl'), args);
    assert.equal(code, 0, stderr);
    return stdout.toString().split('\n').filter(Boolean);
  };
  const kinds = await kubectl('api-resources', '--verbs=list', '--output=name');
  const columns = 'custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name';
  const asked = kinds.filter((kind) => !without.includes(kind));
  const lines = await kubectl('get', asked.join(), '--all-namespaces', '--no-headers', `--output=${columns}`);
  return lines
    .map((line) => line.trim().replace(/ +/g, ' '))
    .filter((line) => !OF_KUBELET.test(line))
    .sort();
}
