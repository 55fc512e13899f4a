/**
 * Random faults with many seeds: storm.ts ROUNDS [FIRST_SEED]. Each round runs test/integration/random-faults with its
 * own seed.
 */

import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import path from 'node:path';

const SPEC = path.join(import.meta.dirname, '..', 'integration', 'random-faults.test.ts');

const [rounds = '5', firstSeed] = process.argv.slice(2);
const failed: number[] = [];
let faults = 0;

for (let round = 0; round < Number(rounds); round += 1) {
  const seed = firstSeed === undefined ? randomInt(2 ** 31) : Number(firstSeed) + round;
  const { status, stdout } = spawnSync('mocha', [SPEC], {
    env: { ...process.env, DISKLIFT_TEST_SEED: String(seed), DISKLIFT_TEST_STORM: 'yes' },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  faults += Number(/storm: \d+ exports, (\d+) faults/.exec(stdout)?.[1] ?? 0);
  if (status !== 0) failed.push(seed);
  console.log(`seed ${seed}: ${status === 0 ? 'passed' : `FAILED\n${stdout}`}`);
}

console.log(`${rounds} rounds, ${faults} faults, ${failed.length} failed${failed.map((seed) => ` DISKLIFT_TEST_SEED=${seed}`).join('')}`);
if (failed.length > 0) process.exitCode = 1;
