/** What a thing that is no regular file is called in messages. */

import type { BigIntStats, Stats } from 'node:fs';

export function kindOf(stat: Stats | BigIntStats): string {
  if (stat.isDirectory()) return 'a directory';
  if (stat.isFIFO()) return 'a FIFO';
  if (stat.isSocket()) return 'a socket';
  if (stat.isBlockDevice()) return 'a block device';
  return 'a character device';
}
