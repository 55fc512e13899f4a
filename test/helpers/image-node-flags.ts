/** The flags that the container image starts Node with. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

const DOCKERFILE = new URL('../../Dockerfile', import.meta.url);

/** @returns the flags in the first line that the Dockerfile gives to disklift */
export function imageNodeFlags(): string[] {
  const [, flags] =
    /#!\$\{NODE_BINARY\} ([^|]+)\|/.exec(readFileSync(DOCKERFILE, 'utf8')) ?? assert.fail('no flags of Node in the Dockerfile');
  return (flags as string).split(' ');
}
