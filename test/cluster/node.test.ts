/**
 * Real pods of manifests/ on a real node, in a namespace that enforces Pod Security `restricted`, as in
 * docs/kubernetes.md.
 */

// Runs alone: its node uses namespaces, cgroups and devices of the machine, and has deadlines of its own.
// Shares a process: node

import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { readManifests } from '../helpers/chart.ts';
import { IMAGE_NAME } from '../helpers/container-image.ts';
import type { Pod } from '../helpers/helm-pods.ts';
import { createKubeVirtDisk } from '../helpers/kubevirt-disk.ts';
import { attachLoopDevice, type LoopDevice } from '../helpers/loop-device.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { boundClaim } from './node/claims.ts';
import { createNamespace, type Namespace } from './node/namespace.ts';
import type { NodeCluster } from './node-cluster.ts';
import { useNodeCluster } from './use-node-cluster.ts';

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };

/** A pod of manifests/ with this checkout's image. */
function podOf(name: string): Pod {
  const [pod] = readManifests(`${name}.yaml`) as Pod[];
  const [container] = pod?.spec.containers ?? [];
  if (pod === undefined || container === undefined) return assert.fail(`${name} has a pod`);
  container.image = IMAGE_NAME;
  return pod;
}

describe('pods on a real node', function () {
  this.timeout(120_000);
  let cluster: NodeCluster;
  let namespace: Namespace;
  let disk: string;
  let device: LoopDevice | undefined;

  before(async function () {
    cluster = await useNodeCluster(this);
    namespace = await createNamespace(cluster);
    const volume = path.join(cluster.directory, 'fedora-root');
    mkdirSync(volume);
    disk = await createKubeVirtDisk(volume);
    device = await attachLoopDevice(disk);
    await namespace.apply([
      ...boundClaim({ namespace: namespace.name, name: 'fedora-root', path: volume }),
      ...boundClaim({ namespace: namespace.name, name: 'windows-root', path: device.path, mode: 'Block' }),
    ]);
  });

  after(async () => {
    // The kubelet releases the device after its pod has ended.
    if (namespace) await namespace.kubectl('delete', 'pods', '--all', '--timeout=60s');
    await device?.[Symbol.asyncDispose]();
  });

  for (const [name, source] of [
    ['stream-pod', '/disks/disk.img'],
    ['stream-pod-block', '/dev/vmdisk'],
  ] as const)
    it(`${name}: kubectl exec streams a disk of KubeVirt's user, in the length that measure printed`, async () => {
      await namespace.apply([podOf(name)]);
      await namespace.kubectl('wait', '--for=condition=Ready', `pod/${name}`, '--timeout=60s');
      assert.equal(await namespace.kubectl('exec', name, '--', 'disklift', '--version'), `${version}\n`);
      const measured = await namespace.kubectl('exec', name, '--', 'disklift', 'measure', source, '--output', 'json');
      const image = path.join(cluster.directory, `${name}.qcow2`);
      const stdout = openSync(image, 'w');
      const args = ['--namespace', namespace.name, 'exec', name, '--', 'disklift', 'stream', source];
      const { code, stderr } = await cluster.run(path.join(cluster.binaries, 'kubectl'), args, { stdout }).finally(() => closeSync(stdout));
      assert.equal(code, 0, stderr);
      assert.equal(statSync(image).size, (JSON.parse(measured) as { imageSizeBytes: number }).imageSizeBytes);
      await assertImageOf(image, disk);
    });

  it('the claim cannot be written to from the pod', async () => {
    const script = "require('fs').writeFileSync('/disks/new', '')";
    const { code, stderr } = await namespace.attempt('exec', 'stream-pod', '--', '/nodejs/bin/node', '-e', script);
    assert.notEqual(code, 0);
    assert.match(stderr, /EROFS/);
  });
});
