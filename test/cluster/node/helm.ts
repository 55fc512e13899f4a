/** The real helm in a namespace of a node, with values for this checkout's image. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { IMAGE_NAME } from '../../helpers/container-image.ts';
import { helmProgram } from '../../helpers/helm-tools.ts';
import type { NodeCluster } from '../node-cluster.ts';
import { NODE_ADDRESS } from './configs.ts';
import type { Namespace } from './namespace.ts';

const [REPOSITORY, TAG] = IMAGE_NAME.split(':');

const LEASE_SECONDS = 5;

/** @returns its output */
export async function helm(cluster: NodeCluster, { name }: Namespace, ...args: string[]): Promise<string> {
  const result = await cluster.run(helmProgram(), ['--namespace', name, ...args]);
  assert.equal(result.code, 0, `helm ${args.join(' ')}: ${result.stderr}`);
  return `${result.stdout}${result.stderr}`;
}

/** @param values of the chart beside the image and a short lease duration @returns helm's flags for them */
export function valuesFlags(cluster: NodeCluster, values: object): string[] {
  const file = path.join(cluster.directory, 'values.json');
  // The receivers of the tests run on the node itself.
  const config = { leaseDurationSeconds: LEASE_SECONDS, logLevel: 'debug', allowDestination: [NODE_ADDRESS] };
  writeFileSync(file, JSON.stringify({ image: { repository: REPOSITORY, tag: TAG }, config, ...values }));
  return ['--values', file];
}
