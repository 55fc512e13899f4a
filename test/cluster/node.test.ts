/** Real pods: disklift's own image on a real node, in a namespace that enforces Pod Security `restricted`. */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { IMAGE_NAME } from '../helpers/container-image.ts';
import type { NodeCluster } from './node-cluster.ts';
import { useNodeCluster } from './use-node-cluster.ts';

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };

/** What Pod Security `restricted` asks for. */
const RESTRICTED = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
};

describe('a real node', function () {
  this.timeout(120_000);
  let cluster: NodeCluster;

  before(async function () {
    cluster = await useNodeCluster(this);
    await kubectl('create', 'namespace', 'vms');
    await kubectl('label', 'namespace', 'vms', 'pod-security.kubernetes.io/enforce=restricted');
  });

  async function kubectl(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await cluster.kubectl(...args);
    assert.equal(code, 0, `kubectl ${args.join(' ')}: ${stderr}`);
    return stdout.toString();
  }

  async function apply(name: string, object: object): Promise<void> {
    const file = path.join(cluster.directory, `${name}.json`);
    writeFileSync(file, JSON.stringify(object));
    await kubectl('apply', '--filename', file);
  }

  it('runs a pod of the image, which tells its version', async () => {
    await apply('version', {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'version', namespace: 'vms' },
      spec: {
        restartPolicy: 'Never',
        securityContext: { runAsNonRoot: true, runAsUser: 107, runAsGroup: 107, seccompProfile: { type: 'RuntimeDefault' } },
        containers: [{ name: 'disklift', image: IMAGE_NAME, args: ['--version'], securityContext: RESTRICTED }],
      },
    });
    await kubectl('--namespace', 'vms', 'wait', 'pod/version', '--for=jsonpath={.status.phase}=Succeeded', '--timeout=60s');
    assert.equal(await kubectl('--namespace', 'vms', 'logs', 'version'), `${version}\n`);
  });
});
