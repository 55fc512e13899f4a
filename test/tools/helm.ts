/** Runs the helm of the tests with the arguments that it gets: for the Makefile. */

import { spawnSync } from 'node:child_process';
import { helmProgram } from '../helpers/helm-tools.ts';

process.exitCode = spawnSync(helmProgram(), process.argv.slice(2), { stdio: 'inherit' }).status ?? 1;
