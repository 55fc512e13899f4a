/** Plays a guest that writes to its disks without pause, and that keeps a copy of them when it is frozen. */

import assert from 'node:assert/strict';
import { copyFile, open } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../helpers/until.ts';
import type { Guest } from './played-virt-api.ts';

const WRITE_EVERY_MS = 10;
const BLOCK_BYTES = 4096;

export interface PlayedGuest extends Guest, AsyncDisposable {
  /** The copy of a disk as it was during the freeze. */
  frozenCopyOf(disk: string): string;
  /** Counts the writes to each disk. */
  readonly writes: number;
}

/** @param disks files that exist @param directory for the copies */
export function playGuest(disks: readonly string[], directory: string): PlayedGuest {
  const guest = new WritingGuest(disks, directory);
  void guest.run();
  return guest;
}

class WritingGuest implements PlayedGuest {
  writes = 0;
  private readonly disks: readonly string[];
  private readonly directory: string;
  private readonly copies = new Map<string, string>();
  private isFrozen = false;
  private isIdle = false;
  private isEnded = false;
  private running: Promise<void> | undefined;

  constructor(disks: readonly string[], directory: string) {
    this.disks = disks;
    this.directory = directory;
  }

  run(): Promise<void> {
    this.running ??= this.write();
    return this.running;
  }

  frozenCopyOf(disk: string): string {
    return this.copies.get(disk) ?? assert.fail(`${disk} was not frozen`);
  }

  async freeze(): Promise<void> {
    this.isFrozen = true;
    await until('the guest writes no more', () => this.isIdle);
    for (const [index, disk] of this.disks.entries()) {
      const copy = path.join(this.directory, `frozen-${index}.raw`);
      await copyFile(disk, copy);
      this.copies.set(disk, copy);
    }
  }

  unfreeze(): void {
    this.isFrozen = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isEnded = true;
    await this.running;
  }

  private async write(): Promise<void> {
    const files = await Promise.all(this.disks.map((disk) => open(disk, 'r+')));
    const block = Buffer.alloc(BLOCK_BYTES, 0xa5);
    while (!this.isEnded) {
      this.isIdle = this.isFrozen;
      if (!this.isIdle) {
        block.writeUInt32LE(this.writes);
        // The first block changes each time, and the data grows.
        for (const file of files)
          for (const position of [0, (1 + (this.writes % 1000)) * BLOCK_BYTES]) await file.write(block, 0, BLOCK_BYTES, position);
        this.writes += 1;
      }
      await sleep(WRITE_EVERY_MS);
    }
    for (const file of files) await file.close();
  }
}
