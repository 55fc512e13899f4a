/**
 * Slots limit the exports that run at a time. They are granted in the order of `reserve`, also to exports that gave
 * their slot back.
 */

import { abortable, throwIfAborted } from '../common/abortable.ts';

/** Why an export waits: no slot is free, or its host uses all slots that it may have. */
type SlotWait = 'slot' | 'host';

export interface Slot {
  /**
   * Waits until a slot is free that no earlier export can use.
   * @throws DiskliftError the reason of `signal`'s abort; then no slot is held
   */
  acquire(signal: AbortSignal): Promise<void>;
  /** Gives the slot back for a wait. The export keeps its position in the queue. */
  pause(): void;
  /**
   * As `pause`, for an export that has a disk open and its scan in memory.
   * @returns whether the export may keep both. As many waiting exports may as there are slots, so that memory,
   * descriptors and child processes do not grow with the number of waiting exports
   */
  pauseOpen(): boolean;
  /** Gives the slot and the position in the queue back. A second call does nothing. */
  release(): void;
  /**
   * Reports whether the last attempt failed because of the destination. While it did, one slot stays free for exports
   * to other hosts.
   */
  setHostFailing(isFailing: boolean): void;
  /** Whether the host fails while an export to another host waits and could use the slot. */
  holdsUpOthers(): boolean;
  /** Undefined while the export holds a slot, or does not wait for one. */
  waitsFor(): SlotWait | undefined;
}

export interface ExportSlots {
  /**
   * Exports get slots in the order of these calls.
   * @param host of the destination; exports to one host are counted together
   */
  reserve(host: string): Slot;
}

export interface SlotLimits {
  /** At least 1. */
  total: number;
  /** Slots that exports to one host may hold together. `total` when left out. */
  perHost?: number | undefined;
}

export function createExportSlots(limits: SlotLimits): ExportSlots {
  const pool = new Pool(limits);
  return { reserve: (host) => new QueuedSlot(pool, host) };
}

class Pool {
  free: number;
  private readonly total: number;
  private readonly perHost: number;
  private reservations = 0;
  /** Waiting exports that keep their disks open. */
  private openCount = 0;
  private readonly hosts = new Map<string, Host>();
  /** In the order of their reservations. */
  private readonly waiting: QueuedSlot[] = [];

  constructor({ total, perHost = total }: SlotLimits) {
    this.total = total;
    this.perHost = perHost;
    this.free = total;
  }

  /** @returns the position of the export in the queue */
  reserve(): number {
    this.reservations += 1;
    return this.reservations;
  }

  addTo(name: string): Host {
    const host = this.hosts.get(name) ?? { name, exports: 0, held: 0, isFailing: false };
    this.hosts.set(name, host);
    host.exports += 1;
    return host;
  }

  removeFrom(host: Host): void {
    host.exports -= 1;
    if (host.exports === 0) this.hosts.delete(host.name);
  }

  isFull({ held, isFailing }: Host): boolean {
    return held >= Math.min(this.perHost, isFailing ? Math.max(1, this.total - 1) : this.total);
  }

  isOtherWaiting(host: Host): boolean {
    return this.waiting.some((slot) => slot.host !== host && !this.isFull(slot.host));
  }

  isWaiting(slot: QueuedSlot): boolean {
    return this.waiting.includes(slot);
  }

  wait(slot: QueuedSlot): void {
    this.waiting.push(slot);
    this.waiting.sort((a, b) => a.position - b.position);
    this.grantAll();
  }

  stopWaiting(slot: QueuedSlot): void {
    const index = this.waiting.indexOf(slot);
    if (index >= 0) this.waiting.splice(index, 1);
  }

  giveBack(host: Host): void {
    this.free += 1;
    host.held -= 1;
    // Exports to other hosts come first, even if there is only one slot.
    if (host.isFailing) this.grantAll(host);
    this.grantAll();
  }

  /** An export whose host is full does not block the exports behind it. @param passedOver gets no slot */
  grantAll(passedOver?: Host): void {
    for (const next of [...this.waiting]) {
      if (this.free === 0) return;
      if (next.host === passedOver || this.isFull(next.host)) continue;
      this.stopWaiting(next);
      this.free -= 1;
      next.host.held += 1;
      next.grant();
    }
  }

  keepOpen(): boolean {
    if (this.openCount >= this.total) return false;
    this.openCount += 1;
    return true;
  }

  stopKeepingOpen(): void {
    this.openCount -= 1;
  }
}

interface Host {
  readonly name: string;
  /** Exports with a reservation. The entry is removed with the last one. */
  exports: number;
  /** Slots. */
  held: number;
  isFailing: boolean;
}

class QueuedSlot implements Slot {
  readonly position: number;
  readonly host: Host;
  private readonly pool: Pool;
  private granted = Promise.withResolvers<void>();
  private isHeld = false;
  private keepsOpen = false;
  private isReleased = false;

  constructor(pool: Pool, host: string) {
    this.pool = pool;
    this.position = pool.reserve();
    this.host = pool.addTo(host);
  }

  async acquire(signal: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    this.granted = Promise.withResolvers<void>();
    this.pool.wait(this);
    try {
      await abortable(this.granted.promise, signal);
    } catch (error) {
      this.pause();
      throw error;
    }
  }

  grant(): void {
    this.isHeld = true;
    this.stopKeepingOpen();
    this.granted.resolve();
  }

  pause(): void {
    this.pool.stopWaiting(this);
    if (!this.isHeld) return;
    this.isHeld = false;
    this.pool.giveBack(this.host);
  }

  pauseOpen(): boolean {
    this.keepsOpen ||= this.pool.keepOpen();
    this.pause();
    return this.keepsOpen;
  }

  release(): void {
    this.stopKeepingOpen();
    this.pause();
    if (this.isReleased) return;
    this.isReleased = true;
    this.pool.removeFrom(this.host);
  }

  setHostFailing(isFailing: boolean): void {
    this.host.isFailing = isFailing;
    this.pool.grantAll();
  }

  holdsUpOthers(): boolean {
    return this.host.isFailing && this.pool.isOtherWaiting(this.host);
  }

  waitsFor(): SlotWait | undefined {
    if (!this.pool.isWaiting(this)) return undefined;
    return this.pool.free > 0 && this.pool.isFull(this.host) ? 'host' : 'slot';
  }

  private stopKeepingOpen(): void {
    if (this.keepsOpen) this.pool.stopKeepingOpen();
    this.keepsOpen = false;
  }
}
