/** The paths of the programs of Kubernetes that tests run. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';

const SCRIPT = path.join(import.meta.dirname, '..', 'tools', 'kubernetes-binaries.sh');

/** Whether the tests use an existing cluster, which a kubeconfig names, instead of starting one. */
export function usesExistingCluster(): boolean {
  return process.env.USE_EXISTING_CLUSTER === 'true';
}

/**
 * @param programs those that are needed; without any, what {@link startApiServer} may start
 * @returns the folder with them, '' for those on the PATH; undefined, and a line on standard error, where they are not
 *   to be had
 */
export function kubernetesBinaries(...programs: string[]): string | undefined {
  if (usesExistingCluster()) return '';
  const { status, stdout } = spawnSync(SCRIPT, ['--existing', ...programs], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  assert.equal(status, 0, 'the programs of Kubernetes are there');
  return stdout.trim() || undefined;
}

/**
 * {@link kubernetesBinaries} for a suite, which is skipped with one loud line if they are missing. Call it in `before`.
 */
export function requireBinaries(context: Mocha.Context, ...programs: string[]): string {
  const binaries = kubernetesBinaries(...programs);
  if (binaries !== undefined) return binaries;
  console.error(`    SKIPPED: ${context.test?.parent?.total()} tests on a real API server, for the reason above`);
  return context.skip();
}
