/** A receiver's file: it grows as FILE.partial and gets its name when it is complete and on the disk. */

import { constants } from 'node:fs';
import { type FileHandle, lstat, open, readFile, rename, rm } from 'node:fs/promises';
import { MIB } from '../../common/bytes.ts';
import { syncDirectoryOf, writeDurably } from '../../common/durable-file.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import { FileDigest } from './file-digest.ts';
import type { ImageOutput } from './image-output.ts';
import type { Confirmation, Hello } from './messages.ts';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;

/** Largest loss when the machine fails or the program is killed. Early writes to the disk also shorten the end. */
const CHECKPOINT_BYTES = 32 * MIB;

const FULL = ['ENOSPC', 'EDQUOT', 'EFBIG'];

interface Growing {
  file: FileHandle;
  hello: Hello | undefined;
  digest: FileDigest;
  writtenBytes: number;
  durableBytes: number;
  /** The checkpoint in progress. */
  checkpoint: Promise<void> | undefined;
  /**
   * Failure after which bytes behind the last checkpoint may not be on the disk; the kernel reports a failed write only
   * once.
   */
  failure: unknown;
}

export interface FileOutputOptions {
  path: string;
  /** Replace a file that is there. */
  force: boolean;
}

/** @throws DiskliftError `InvalidRequest` where there is something that must not be replaced */
export async function createFileOutput({ path: filePath, force }: FileOutputOptions): Promise<ImageOutput> {
  const there = await lstat(filePath).catch(() => undefined);
  if (there !== undefined && !there.isFile()) throw new DiskliftError('InvalidRequest', `${filePath}: is not a regular file`);
  if (there !== undefined && !force) throw new DiskliftError('InvalidRequest', `${filePath}: exists; --force replaces it`);
  return new FileOutput(filePath, force);
}

class FileOutput implements ImageOutput {
  private readonly path: string;
  private readonly partialPath: string;
  private readonly statePath: string;
  private readonly force: boolean;
  private growing: Growing | undefined;
  /** Inode of the file that was put in place last. Another try of the same disk may replace it. */
  private finished: { ino: number; hello: Hello | undefined } | undefined;

  constructor(filePath: string, force: boolean) {
    this.path = filePath;
    this.partialPath = `${filePath}.partial`;
    this.statePath = `${this.partialPath}.json`;
    this.force = force;
  }

  begin(hello?: Hello): Promise<number> {
    return typed('cannot open the output', async () => {
      await this.refuseToReplace(hello);
      this.growing = (await this.openKept(hello)) ?? (await this.openNew(hello));
      return this.growing.writtenBytes;
    });
  }

  write(bytes: Uint8Array): Promise<void> {
    return typed('cannot write the output', async () => {
      const growing = this.growing as Growing;
      throwFailure(growing);
      await growing.digest.add(bytes, writeAt(growing.file, bytes, growing.writtenBytes));
      growing.writtenBytes += bytes.length;
      if (growing.checkpoint === undefined && growing.writtenBytes - growing.durableBytes >= CHECKPOINT_BYTES)
        this.beginCheckpoint(growing);
    });
  }

  async suspend(): Promise<void> {
    const { growing } = this;
    if (growing === undefined) return;
    this.growing = undefined;
    try {
      await growing.checkpoint;
      await this.makeDurable(growing);
    } catch {
      // The next try continues from the last checkpoint.
    } finally {
      await growing.file.close();
    }
  }

  finish(): Promise<Required<Confirmation>> {
    return typed('cannot complete the output', async () => {
      const growing = this.growing as Growing;
      const { file, hello, digest, writtenBytes: sizeBytes } = growing;
      const sha256 = await digest.finish();
      await growing.checkpoint;
      await synced(growing, () => file.sync());
      const { ino } = await file.stat();
      if ((await lstat(this.partialPath)).ino !== ino)
        throw new DiskliftError('DestinationRejected', 'somebody else writes to the same output');
      await this.refuseToReplace(hello);
      await rename(this.partialPath, this.path);
      await syncDirectoryOf(this.path);
      this.finished = { ino, hello };
      this.growing = undefined;
      await file.close();
      await rm(this.statePath, { force: true });
      return { sizeBytes, sha256 };
    });
  }

  discard(): Promise<void> {
    return typed('cannot remove the output', async () => {
      const there = await lstat(this.path).catch(() => undefined);
      if (there !== undefined && there.ino === this.finished?.ino) await rm(this.path);
      this.finished = undefined;
    });
  }

  private async refuseToReplace(hello: Hello | undefined): Promise<void> {
    if (this.force) return;
    const there = await lstat(this.path).catch(() => undefined);
    if (there === undefined) return;
    const { ino, hello: mine } = this.finished ?? {};
    const isAnotherTry = ino === there.ino && hello !== undefined && mine?.exportUid === hello.exportUid && mine.disk === hello.disk;
    if (!isAnotherTry) throw new DiskliftError('DestinationRejected', 'the output exists already');
  }

  /** Opens the bytes that an earlier try left of the same image. */
  private async openKept(hello: Hello | undefined): Promise<Growing | undefined> {
    const kept = await readPartialState(this.statePath);
    if (hello?.fingerprint === undefined || kept === undefined) return undefined;
    const { durableBytes, ...image } = kept;
    const isSame = (Object.keys(image) as (keyof typeof image)[]).every((key) => image[key] === hello[key]);
    const file = isSame ? await open(this.partialPath, O_RDWR | O_NOFOLLOW).catch(() => undefined) : undefined;
    if (file === undefined) return undefined;
    return closeUnlessUsed(file, async () => {
      const stat = await file.stat();
      if (!stat.isFile() || stat.size < durableBytes) return undefined;
      await file.truncate(durableBytes);
      return growingFrom(file, hello, durableBytes);
    });
  }

  private async openNew(hello: Hello | undefined): Promise<Growing> {
    // In this order, so that a state is never beside bytes of another image.
    await rm(this.statePath, { force: true });
    await rm(this.partialPath, { force: true });
    const file = await open(this.partialPath, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o666);
    return closeUnlessUsed(file, async () => {
      const growing = growingFrom(file, hello, 0);
      await this.makeDurable(growing);
      await syncDirectoryOf(this.path);
      return growing;
    });
  }

  private beginCheckpoint(growing: Growing): void {
    growing.checkpoint = this.makeDurable(growing)
      .catch((error: unknown) => {
        growing.failure = error;
      })
      .finally(() => {
        growing.checkpoint = undefined;
      });
  }

  private async makeDurable(growing: Growing): Promise<void> {
    const { file, hello, writtenBytes } = growing;
    await synced(growing, () => file.datasync());
    growing.durableBytes = writtenBytes;
    if (hello?.fingerprint === undefined) return;
    const state: PartialState = { ...hello, fingerprint: hello.fingerprint, durableBytes: writtenBytes };
    await writeDurably(this.statePath, { text: `${JSON.stringify(state)}\n`, mode: 0o600 });
  }
}

function growingFrom(file: FileHandle, hello: Hello | undefined, sizeBytes: number): Growing {
  const digest = new FileDigest(file, sizeBytes);
  return { file, hello, digest, writtenBytes: sizeBytes, durableBytes: sizeBytes, checkpoint: undefined, failure: undefined };
}

/**
 * @returns the result of `use`; closes the file where that is undefined or `use` throws, because the file then has no
 * owner
 */
async function closeUnlessUsed<T extends Growing | undefined>(file: FileHandle, use: () => Promise<T>): Promise<T> {
  let growing: T | undefined;
  try {
    growing = await use();
    return growing as T;
  } finally {
    if (growing === undefined) await file.close();
  }
}

async function writeAt(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
}

function throwFailure({ failure }: Growing): void {
  if (failure !== undefined) throw failure;
}

/** After a failed sync a second one succeeds, and the bytes can still be read although they are not on the disk. */
async function synced(growing: Growing, sync: () => Promise<void>): Promise<void> {
  throwFailure(growing);
  try {
    await sync();
  } catch (error) {
    growing.failure = error;
    throw error;
  }
}

/** Types a failure. The message names no path, because the sender receives it too. */
async function typed<T>(what: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (error) {
    if (error instanceof DiskliftError) throw error;
    // Node's own errors contain the path in their text, so only their code is reported.
    const errno = errnoOf(error) ?? String((error as NodeJS.ErrnoException).code ?? 'an unknown failure');
    const isFull = FULL.includes(errno);
    throw new DiskliftError('DestinationRejected', `${what}: ${isFull ? `no space left (${errno})` : errno}`, error, { retryable: isFull });
  }
}

export interface PartialState extends Required<Hello> {
  /** Number of bytes that survive a loss of power. */
  durableBytes: number;
}

/** @returns undefined when the file does not exist or is not valid */
export async function readPartialState(path: string): Promise<PartialState | undefined> {
  try {
    const state = JSON.parse(await readFile(path, 'utf8')) as Partial<Record<keyof PartialState, unknown>> | null;
    const { exportUid, disk, fingerprint, sizeBytes, durableBytes } = state ?? {};
    if (typeof exportUid !== 'string' || typeof disk !== 'string' || typeof fingerprint !== 'string') return undefined;
    if (!isCount(sizeBytes) || !isCount(durableBytes) || durableBytes > sizeBytes) return undefined;
    return { exportUid, disk, fingerprint, sizeBytes, durableBytes };
  } catch {
    return undefined;
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
