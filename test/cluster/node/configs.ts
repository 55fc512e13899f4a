/** The configuration of a node's programs. Their paths exist on the node only (namespaces.sh). */

import { readFileSync } from 'node:fs';
import path from 'node:path';

/** The gateway of the pods, which is the node's address. */
export const NODE_ADDRESS = '10.88.0.1';
export const NODE_NAME = 'disklift-node';
export const CONTAINERD_SOCKET = '/run/containerd/containerd.sock';
/** Names of the examples' receivers, each with an address of the node that no pod has. */
export const RECEIVER_NAMES = {
  'backup.example': '192.0.2.10',
  's3.example': '192.0.2.11',
  // The name of the bucket is a part of the host name.
  'backups.s3.example': '192.0.2.11',
} as const;

const { version } = JSON.parse(readFileSync(path.join(import.meta.dirname, '..', '..', '..', 'package.json'), 'utf8')) as {
  version: string;
};
/** The names of the images in manifests/. */
export const DISKLIFT_IMAGE = `registry.example/disklift:${version}`;
export const FORMATS_IMAGE = `registry.example/disklift-formats:${version}`;
export const PAUSE_IMAGE = 'localhost/pause:test';

/** @param cniDirectory the directory with {@link cniConfig} */
export function containerdConfig(cniDirectory: string): string {
  return `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE_IMAGE}"
  # Where root lacks CAP_SYS_RESOURCE, runc could not start anything otherwise.
  restrict_oom_score_adj = true
  # Block volumes belong to the user of the pod that has them: CDI and disklift need it.
  device_ownership_from_security_context = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${cniDirectory}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
`;
}

/** A conflist: pods get addresses of the bridge that namespaces.sh has made. */
export function cniConfig(): object {
  return {
    cniVersion: '0.4.0',
    name: 'pods',
    plugins: [
      {
        type: 'bridge',
        bridge: 'disklift0',
        isGateway: true,
        // Lets a pod reach itself by its own Service.
        hairpinMode: true,
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.88.0.0/16', gateway: NODE_ADDRESS }]], routes: [{ dst: '0.0.0.0/0' }] },
      },
    ],
  };
}

/** @param cgroupRoot an existing cgroup, the parent of all pods' cgroups */
export function kubeletConfig(cgroupRoot: string): object {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    // Only this machine's root can enter the node's network.
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: 'AlwaysAllow' },
    cgroupDriver: 'cgroupfs',
    cgroupRoot,
    failCgroupV1: false,
    enforceNodeAllocatable: [],
    failSwapOn: false,
    containerRuntimeEndpoint: `unix://${CONTAINERD_SOCKET}`,
    volumePluginDir: '/var/lib/kubelet/volume-plugins',
    resolvConf: '',
    clusterDNS: [NODE_ADDRESS],
    clusterDomain: 'cluster.local',
    // Disks of developers are often nearly full.
    evictionHard: { 'memory.available': '0%', 'nodefs.available': '0%', 'nodefs.inodesFree': '0%', 'imagefs.available': '0%' },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
  };
}

export function corefile(kubeconfig: string): string {
  const names = Object.entries(RECEIVER_NAMES).map(([name, address]) => `    ${address} ${name}`);
  return `example.:53 {
  bind ${NODE_ADDRESS}
  errors
  hosts {
${names.join('\n')}
  }
}
.:53 {
  bind ${NODE_ADDRESS}
  errors
  kubernetes cluster.local {
    kubeconfig ${kubeconfig}
  }
}
`;
}
