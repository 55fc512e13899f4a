/** The destinations of all contract tests. */

import type { Destination } from './destination.ts';
import { HTTP_DESTINATIONS } from './http-destinations.ts';
import { S3_DESTINATIONS } from './s3-destinations.ts';
import { TCP_DESTINATIONS } from './tcp-destinations.ts';

export const DESTINATIONS: readonly Destination[] = [...HTTP_DESTINATIONS, ...TCP_DESTINATIONS, ...S3_DESTINATIONS];
