/**
 * Lets one process at a time use a directory of requests. The holder is the process that created `.disklift-N.lock`
 * with the highest N. A process that finds the holder dead creates N + 1, which only one process can, and removes the
 * lower ones. Works across containers and on network file systems.
 */

import { randomUUID } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import { fateOf, type ProcessIdentity, thisProcess } from '../process-identity.ts';
import { directoryError } from './directory-files.ts';

/** The holder renews its lock this often. */
const RENEW_MS = 5000;
/** After this time without a renewal the holder treats its lock as lost... */
const UNSURE_MS = 12_000;
/** ...which is before processes that cannot see the holder's pid treat it as dead. */
const STALE_MS = 20_000;

const LOCK_NAME = /^\.disklift-(\d{1,15})\.lock$/;

interface Held {
  number: number;
  nonce: string;
  lost: AbortController;
  renewedMs: number;
}

interface LockContent extends Partial<ProcessIdentity> {
  nonce?: string;
}

export class DirectoryLock {
  private readonly directory: string;
  private readonly clock: Clock;
  private held: Held | undefined;
  private acquiring: Promise<Held | undefined> | undefined;
  /** Nonces of locks that this process has created: it need not wait for its own lock. */
  private readonly ownNonces = new Set<string>();
  /** State of another process's lock, and the time at which it was seen to change. */
  private seen = { state: '', sinceMs: 0 };
  private otherHolder = 'another process';

  constructor(directory: string, clock: Clock) {
    this.directory = directory;
    this.clock = clock;
  }

  /**
   * @returns a signal that is aborted when the lock is lost; undefined when another process holds the lock
   * @throws DiskliftError `StoreRefused` or `StoreUnavailable` when no process can hold it: the directory is not
   * writable, or unreachable
   */
  async acquire(): Promise<AbortSignal | undefined> {
    if (this.held === undefined) {
      this.acquiring ??= this.create().finally(() => {
        this.acquiring = undefined;
      });
      await this.acquiring;
    }
    return this.held?.lost.signal;
  }

  /** The process that held the lock at the last {@link acquire}, as far as the lock file names it. */
  get holder(): string {
    return this.otherHolder;
  }

  get isHeld(): boolean {
    return this.held !== undefined;
  }

  /** @throws DiskliftError `ExecutorLost` when another process may hold the lock; the lock then counts as lost */
  async assertHeld(): Promise<void> {
    const { held } = this;
    if (held === undefined) throw lostError('it is not held');
    try {
      await this.renew(held);
    } catch (error) {
      throw this.lose(held, error);
    }
  }

  async release(): Promise<void> {
    const { held } = this;
    this.held = undefined;
    if (held === undefined) return;
    held.lost.abort(lostError('it was released'));
    await fs.rm(this.fileOf(held.number), { force: true }).catch(() => {});
  }

  private fileOf(number: number): string {
    return path.join(this.directory, `.disklift-${number}.lock`);
  }

  /** In rising order. */
  private async numbers(): Promise<number[]> {
    const names = await fs.readdir(this.directory);
    return names
      .flatMap((name) => Number(LOCK_NAME.exec(name)?.[1] ?? []))
      .filter(Boolean)
      .sort((a, b) => a - b);
  }

  private async create(): Promise<Held | undefined> {
    try {
      const last = (await this.numbers()).at(-1) ?? 0;
      if (last > 0 && !(await this.isDead(this.fileOf(last)))) return undefined;
      const number = last + 1;
      const nonce = randomUUID();
      await fs.writeFile(this.fileOf(number), JSON.stringify({ nonce, ...(await thisProcess()) }), { flag: 'wx' });
      this.ownNonces.add(nonce);
      const now = await this.numbers();
      if (now.at(-1) !== number) {
        // This process was so slow that another one became the holder meanwhile.
        await fs.rm(this.fileOf(number), { force: true });
        return undefined;
      }
      for (const lower of now) if (lower < number) await fs.rm(this.fileOf(lower), { force: true });
      this.held = { number, nonce, lost: new AbortController(), renewedMs: this.clock.monotonicMs() };
      void this.keep(this.held);
      return this.held;
    } catch (error) {
      // Another process was faster: it created the lock with this number, or removed the lock that this process had
      // read.
      if (errnoOf(error) === 'EEXIST' || (errnoOf(error) === 'ENOENT' && (await this.exists()))) return undefined;
      throw directoryError(this.directory, error);
    }
  }

  private async exists(): Promise<boolean> {
    return fs.stat(this.directory).then(
      () => true,
      () => false,
    );
  }

  /** Throws when another process has the lock, or the file system fails. */
  private async renew(held: Held): Promise<void> {
    const file = this.fileOf(held.number);
    const [numbers, content] = [await this.numbers(), await readContent(file)];
    if (numbers.at(-1) !== held.number || content.nonce !== held.nonce) throw lostError('another process has taken it');
    const seconds = this.clock.nowMs() / 1000;
    await fs.utimes(file, seconds, seconds);
    held.renewedMs = this.clock.monotonicMs();
  }

  private async keep(held: Held): Promise<void> {
    while (!held.lost.signal.aborted) {
      // The loss of the lock ends the wait.
      await this.clock.delay(RENEW_MS, held.lost.signal).catch(() => {});
      if (held.lost.signal.aborted) return;
      try {
        await this.renew(held);
      } catch (error) {
        const isLost = error instanceof DiskliftError;
        if (isLost || this.clock.monotonicMs() - held.renewedMs > UNSURE_MS) this.lose(held, error);
      }
    }
  }

  private lose(held: Held, cause: unknown): DiskliftError {
    const error = cause instanceof DiskliftError ? cause : lostError(`${errnoOf(cause) ?? 'an error'} when it was renewed`, cause);
    if (this.held === held) this.held = undefined;
    held.lost.abort(error);
    return error;
  }

  /** By proof where the kernel offers one; otherwise the lock must not have been renewed for STALE_MS. */
  private async isDead(file: string): Promise<boolean> {
    const content = await readContent(file);
    if (content.nonce !== undefined && this.ownNonces.has(content.nonce)) return true;
    this.otherHolder = content.pid === undefined ? 'another process' : `another process (pid ${content.pid})`;
    const fate = await fateOf(content, await thisProcess());
    if (fate !== 'unknown') return fate === 'ended';
    const { mtimeMs } = await fs.stat(file);
    const state = `${file} ${content.nonce} ${mtimeMs}`;
    const nowMs = this.clock.monotonicMs();
    if (this.seen.state !== state) this.seen = { state, sinceMs: nowMs };
    return nowMs - this.seen.sinceMs >= STALE_MS;
  }
}

/** @returns an empty object for a lock file that is still being written */
async function readContent(file: string): Promise<LockContent> {
  const text = await fs.readFile(file, 'utf8');
  try {
    return JSON.parse(text) as LockContent;
  } catch {
    return {};
  }
}

function lostError(why: string, cause?: unknown): DiskliftError {
  return new DiskliftError('ExecutorLost', `the lock of the directory of requests is lost: ${why}`, cause);
}
