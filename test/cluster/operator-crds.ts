/** The operators' own definitions of the resources for which the chart and the examples make objects. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import type { ApiServer } from './api-server.ts';
import { usesExistingCluster } from './kubernetes-binaries.ts';

const SCRIPT = path.join(import.meta.dirname, '..', 'tools', 'go-module.sh');

interface Module {
  module: string;
  version: string;
}

interface Definitions extends Module {
  files: string[];
}

const SNAPSHOTS: Module = { module: 'github.com/kubernetes-csi/external-snapshotter/client/v8', version: 'v8.7.0' };

const DEFINITIONS: Definitions[] = [
  {
    module: 'github.com/prometheus-operator/prometheus-operator',
    version: 'v0.85.0',
    files: ['podmonitors', 'prometheusrules'].map((name) => `example/prometheus-operator-crd/monitoring.coreos.com_${name}.yaml`),
  },
  { ...SNAPSHOTS, files: ['config/crd/snapshot.storage.k8s.io_volumesnapshots.yaml'] },
];

/** The kinds that these define. */
export const OPERATOR_KINDS = ['PodMonitor', 'PrometheusRule', 'VolumeSnapshot'];

/** The kinds of snapshots. @returns undefined where their module is missing */
export function snapshotCrdFiles(): string[] | undefined {
  const folder = moduleFolder(SNAPSHOTS);
  const kinds = ['volumesnapshots', 'volumesnapshotclasses', 'volumesnapshotcontents'];
  return folder === undefined ? undefined : kinds.map((kind) => path.join(folder, `config/crd/snapshot.storage.k8s.io_${kind}.yaml`));
}

/** make setup downloads the modules; a test waits for no network. */
function moduleFolder({ module, version }: Module): string | undefined {
  const env = { ...process.env, GOPROXY: 'off' };
  const { status, stdout } = spawnSync(SCRIPT, [module, version], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], env });
  assert.equal(status, 0, `the files of ${module} are there; make setup downloads them`);
  return stdout.trim() || undefined;
}

/** @returns false if the definitions are missing or the cluster is not started by the tests: then it stays unchanged */
export async function installOperatorCrds(api: ApiServer): Promise<boolean> {
  if (usesExistingCluster()) return false;
  const files: string[] = [];
  for (const definitions of DEFINITIONS) {
    const folder = moduleFolder(definitions);
    if (folder === undefined) return false;
    files.push(...definitions.files.map((name) => path.join(folder, name)));
  }
  const named = files.flatMap((file) => ['--filename', file]);
  for (const command of [
    ['apply', '--server-side', ...named],
    ['wait', '--for=condition=Established', '--timeout=30s', ...named],
  ]) {
    const { code, stderr } = await api.kubectl(...command);
    assert.equal(code, 0, stderr);
  }
  return true;
}
