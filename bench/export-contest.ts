/** Types that the parts of bench/export.ts share. */

import type { Contestant, Result } from './contest.ts';

export interface ExportContest {
  /** The disk, and the image of it that was made before. */
  mixed: string;
  ready: string;
  /** The one processor that the server has. */
  sinkCpu: string;
  rounds: number;
  /** @returns the words that run an export of the mixed disk */
  exportLine(name: string, destination: object, checksum: string, flags?: string): string;
  measure(title: string, contestants: Contestant[]): Result[];
}
