/**
 * `node bench/s3-sink.ts CERTIFICATE KEY` is an S3 server over https that stores and hashes nothing, so that a bench
 * measures the sender alone. It prints its port.
 */

import { readFileSync } from 'node:fs';
import { startDrainingS3 } from '../test/helpers/draining-sinks.ts';

const [certificateFile = '', keyFile = ''] = process.argv.slice(2);
const { port } = await startDrainingS3({ certificate: readFileSync(certificateFile, 'utf8'), key: readFileSync(keyFile, 'utf8') });
console.log(port);
