/**
 * `node bench/s3-sink.ts CERTIFICATE KEY`: an S3 server over https that keeps nothing and hashes nothing, so that what is measured is
 * who sends. Prints its port.
 */

import { readFileSync } from 'node:fs';
import { startDrainingS3 } from '../test/helpers/draining-sinks.ts';

const [certificateFile = '', keyFile = ''] = process.argv.slice(2);
const { port } = await startDrainingS3({ certificate: readFileSync(certificateFile, 'utf8'), key: readFileSync(keyFile, 'utf8') });
console.log(port);
