/** Slots of the exports that run at a time: first come, first served, also when an export that gave its slot back returns. */

import { abortable, throwIfAborted } from '../common/abortable.ts';

/** Why an export waits: no slot is free, or its host has as many as it may have. */
type SlotWait = 'slot' | 'host';

export interface Slot {
  /**
   * Waits until a slot is free and no export that came earlier can use it.
   * @throws DiskliftError the reason of `signal`'s abort; then no slot is held
   */
  acquire(signal: AbortSignal): Promise<void>;
  /** Gives the slot back for a wait, and keeps the export's turn. */
  pause(): void;
  /**
   * The same for an export that has a disk open and its scan in memory.
   * @returns whether it may keep both. As many waiting exports may as there are slots, so that memory, descriptors and child processes do
   * not grow with the number of exports that wait
   */
  pauseOpen(): boolean;
  /** Gives the slot back for good. The second call does nothing. */
  release(): void;
  /** Whether the last attempt failed because of the destination. Other exports to other hosts then always have a slot left. */
  setHostFailing(isFailing: boolean): void;
  /** Whether the host fails, and an export to another host waits that could have the slot. */
  holdsUpOthers(): boolean;
  /** Undefined while it holds a slot, or waits for none. */
  waitsFor(): SlotWait | undefined;
}

export interface ExportSlots {
  /** Exports get their slots in the order of these calls. @param host of the destination; exports to one host are counted together */
  reserve(host: string): Slot;
}

export interface SlotLimits {
  /** 1 and more. */
  total: number;
  /** Slots that exports to one host may hold together. No limit of its own when left out. */
  perHost?: number | undefined;
}

export function createExportSlots(limits: SlotLimits): ExportSlots {
  const pool = new Pool(limits);
  return { reserve: (host) => new TurnSlot(pool, host) };
}

class Pool {
  free: number;
  private readonly total: number;
  private readonly perHost: number;
  private turns = 0;
  /** Exports that wait and keep their disks open. */
  private keeping = 0;
  private readonly hosts = new Map<string, Host>();
  /** By their turns. */
  private readonly waiting: TurnSlot[] = [];

  constructor({ total, perHost = total }: SlotLimits) {
    this.total = total;
    this.perHost = perHost;
    this.free = total;
  }

  nextTurn(): number {
    this.turns += 1;
    return this.turns;
  }

  enter(name: string): Host {
    const host = this.hosts.get(name) ?? { name, turns: 0, held: 0, isFailing: false };
    this.hosts.set(name, host);
    host.turns += 1;
    return host;
  }

  leave(host: Host): void {
    host.turns -= 1;
    if (host.turns === 0) this.hosts.delete(host.name);
  }

  isFull({ held, isFailing }: Host): boolean {
    return held >= Math.min(this.perHost, isFailing ? Math.max(1, this.total - 1) : this.total);
  }

  isOtherWaiting(host: Host): boolean {
    return this.waiting.some((slot) => slot.host !== host && !this.isFull(slot.host));
  }

  isWaiting(slot: TurnSlot): boolean {
    return this.waiting.includes(slot);
  }

  wait(slot: TurnSlot): void {
    this.waiting.push(slot);
    this.waiting.sort((a, b) => a.turn - b.turn);
    this.grantAll();
  }

  stopWaiting(slot: TurnSlot): void {
    const index = this.waiting.indexOf(slot);
    if (index >= 0) this.waiting.splice(index, 1);
  }

  giveBack(host: Host): void {
    this.free += 1;
    host.held -= 1;
    // Exports to other hosts first, also where there is one slot only.
    if (host.isFailing) this.grantAll(host);
    this.grantAll();
  }

  /** An export whose host is full does not hold up those behind it. @param passedOver gets no slot */
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
    if (this.keeping >= this.total) return false;
    this.keeping += 1;
    return true;
  }

  stopKeeping(): void {
    this.keeping -= 1;
  }
}

interface Host {
  readonly name: string;
  /** Exports that have a turn. The entry is dropped with the last one. */
  turns: number;
  held: number;
  isFailing: boolean;
}

class TurnSlot implements Slot {
  readonly turn: number;
  readonly host: Host;
  private readonly pool: Pool;
  private granted = Promise.withResolvers<void>();
  private isHeld = false;
  private isKeeping = false;
  private isReleased = false;

  constructor(pool: Pool, host: string) {
    this.pool = pool;
    this.turn = pool.nextTurn();
    this.host = pool.enter(host);
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
    this.stopKeeping();
    this.granted.resolve();
  }

  pause(): void {
    this.pool.stopWaiting(this);
    if (!this.isHeld) return;
    this.isHeld = false;
    this.pool.giveBack(this.host);
  }

  pauseOpen(): boolean {
    this.isKeeping ||= this.pool.keepOpen();
    this.pause();
    return this.isKeeping;
  }

  release(): void {
    this.stopKeeping();
    this.pause();
    if (this.isReleased) return;
    this.isReleased = true;
    this.pool.leave(this.host);
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

  private stopKeeping(): void {
    if (this.isKeeping) this.pool.stopKeeping();
    this.isKeeping = false;
  }
}
