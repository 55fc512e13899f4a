/** `node bench/data-path.ts`: the measurements behind docs/decisions/0003-data-path.md. */

import path from 'node:path';
import { benchDisk } from './bench-disks.ts';
import { runContest } from './contest.ts';
import { machineFacts, printResults } from './report.ts';

const ROUNDS = 7;
const VARIANT = path.join(import.meta.dirname, 'data-path-variant.ts');
const TMPFS = '/dev/shm/disklift-bench.raw';

const disk = await benchDisk('mixed');
const line = (variant: string, output: string) => `@${process.execPath} ${VARIANT} '${variant}' ${disk} ${output}`;

console.log(machineFacts());
const toPipe = ['splice in the pool', 'splice in a thread of its own', 'splice, pipe of 64 KiB', 'read and write'];
printResults(
  '2 GiB of data, warm, to a pipe; whole processes',
  runContest(
    toPipe.map((name) => ({ name, line: line(name, '| cat > /dev/null') })),
    ROUNDS,
  ),
);
const prepare = `rm -f ${TMPFS}; dd if=/dev/zero of=${TMPFS} bs=1M count=2600; rm -f ${TMPFS}`;
printResults(
  '2 GiB of data, warm, to a file on tmpfs; whole processes',
  runContest(
    ['sendfile in the pool', 'read and write'].map((name) => ({ name, line: line(name, `> ${TMPFS}`), prepare })),
    ROUNDS,
  ),
);
