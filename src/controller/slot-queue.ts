/**
 * Decides which exports may have a Job. A slot is held from the first object that the controller makes for an export
 * until the last one is gone. Pure: no time, no calls.
 *
 * Fair among namespaces: a free slot goes to the namespace that holds the fewest slots. Among several of them, the one
 * that has waited longest since its last slot comes first. Within a namespace the oldest export comes first.
 */

export interface SlotLimits {
  total: number;
  perNamespace: number;
  /** For exports whose pod must run on one known node. */
  perNode: number;
  /** Exports to one destination host. No limit when undefined. */
  perHost?: number | undefined;
}

interface SlotRequest {
  namespace: string;
  /** Host of the destination. */
  host: string;
  /** The node on which the pod must run, where that is known. */
  node?: string | undefined;
  /** Creation of the export, in milliseconds since the epoch. */
  createdMs: number;
}

export interface SlotQueue {
  /** @returns whether the export has a slot. If not, it waits, and `onGrant` reports its slot later. */
  request(key: string, request: SlotRequest): boolean;
  /** Takes a slot whatever the limits say: the export has objects already, from before a restart. */
  adopt(key: string, request: SlotRequest): void;
  /** Corrects the node of a slot that is held, when the scheduler has chosen it. */
  place(key: string, node: string): void;
  holds(key: string): boolean;
  waits(key: string): boolean;
  /** Whether no export of the namespace holds a slot or waits for one. */
  isIdle(namespace: string): boolean;
  /** Gives back the slot or the place in the queue. Does nothing for an unknown key. */
  release(key: string): void;
  /**
   * Exports that get a slot before this one; undefined when it does not wait. Exact if none ends and no limit blocks
   * one of them. If exports end meanwhile, some of those counted may come later. Costs time per namespace.
   */
  ahead(key: string): number | undefined;
  /** Why the first export of that namespace waits, in words for people. */
  reasonOf(key: string): string;
  readonly waitingCount: number;
  readonly heldCount: number;
  /** Keys that wait, each after those that {@link ahead} counts. Costs time per key. */
  waiting(): string[];
  /** Creation of the oldest export that waits; undefined when none waits. Costs time per namespace. */
  oldestWaitingMs(): number | undefined;
}

export interface SlotQueueOptions {
  limits: SlotLimits;
  /** Called with the key of an export that waited and has a slot now. */
  onGrant(key: string): void;
}

interface Waiting extends SlotRequest {
  key: string;
}

interface NamespaceState {
  /** Sorted by creation, then by key. */
  waiting: Waiting[];
  heldCount: number;
  /** Count of grants at the last one to this namespace: the smaller, the longer ago. Different in each namespace. */
  lastGrant: number;
}

/** A blocked export at the head (its host or node is full) does not block those behind it, up to this depth. */
const MAX_LOOK_AHEAD = 16;

/** `lastGrant` of a namespace that has had no slot counts up from here: it comes before all that have had one. */
const NEVER = Number.MIN_SAFE_INTEGER;

export function createSlotQueue(options: SlotQueueOptions): SlotQueue {
  return new FairQueue(options);
}

class FairQueue implements SlotQueue {
  private readonly limits: SlotLimits;
  private readonly onGrant: (key: string) => void;
  private readonly namespaces = new Map<string, NamespaceState>();
  private readonly requests = new Map<string, Waiting>();
  private readonly held = new Map<string, SlotRequest>();
  private readonly hosts = new Map<string, number>();
  private readonly nodes = new Map<string, number>();
  private grants = 0;
  private namespacesMade = 0;

  constructor({ limits, onGrant }: SlotQueueOptions) {
    this.limits = limits;
    this.onGrant = onGrant;
  }

  get waitingCount(): number {
    return this.requests.size;
  }

  get heldCount(): number {
    return this.held.size;
  }

  holds(key: string): boolean {
    return this.held.has(key);
  }

  waits(key: string): boolean {
    return this.requests.has(key);
  }

  isIdle(namespace: string): boolean {
    return !this.namespaces.has(namespace);
  }

  waiting(): string[] {
    const turns = [...this.namespaces.values()].flatMap(({ waiting, heldCount, lastGrant }) =>
      waiting.map(({ key }, place) => ({ key, turn: heldCount + place, heldCount, lastGrant })),
    );
    return turns.sort((a, b) => a.turn - b.turn || b.heldCount - a.heldCount || a.lastGrant - b.lastGrant).map(({ key }) => key);
  }

  request(key: string, request: SlotRequest): boolean {
    if (this.held.has(key)) return true;
    if (!this.requests.has(key)) this.enqueue(key, request);
    this.grantFree(key);
    return this.held.has(key);
  }

  adopt(key: string, request: SlotRequest): void {
    if (this.held.has(key)) return;
    this.dequeue(key);
    this.hold(key, request);
  }

  place(key: string, node: string): void {
    const slot = this.held.get(key);
    if (slot === undefined || slot.node === node) return;
    if (slot.node !== undefined) add(this.nodes, slot.node, -1);
    add(this.nodes, node, 1);
    this.held.set(key, { ...slot, node });
    this.grantFree();
  }

  release(key: string): void {
    this.dequeue(key);
    const slot = this.held.get(key);
    if (slot === undefined) return;
    this.held.delete(key);
    add(this.hosts, slot.host, -1);
    if (slot.node !== undefined) add(this.nodes, slot.node, -1);
    const state = this.stateOf(slot.namespace);
    state.heldCount -= 1;
    this.dropIfIdle(slot.namespace, state);
    this.grantFree();
  }

  ahead(key: string): number | undefined {
    const entry = this.requests.get(key);
    if (entry === undefined) return undefined;
    const own = this.stateOf(entry.namespace);
    const place = indexOf(own.waiting, entry);
    // Slots that its namespace holds when it is this export's turn.
    const turn = own.heldCount + place;
    let count = place;
    for (const [name, other] of this.namespaces) {
      if (name === entry.namespace || other.heldCount > turn) continue;
      // Both namespaces then hold as many slots. The one that had to catch up got its last slot later.
      const isFirst = other.heldCount > own.heldCount || (other.heldCount === own.heldCount && other.lastGrant < own.lastGrant);
      count += Math.min(other.waiting.length, turn - other.heldCount + (isFirst ? 1 : 0));
    }
    return count;
  }

  reasonOf(key: string): string {
    const entry = this.requests.get(key);
    if (entry === undefined) return 'it does not wait';
    return this.blockOf(entry) ?? 'other exports come first';
  }

  oldestWaitingMs(): number | undefined {
    let oldestMs: number | undefined;
    for (const { waiting } of this.namespaces.values()) {
      const createdMs = waiting[0]?.createdMs;
      if (createdMs !== undefined && (oldestMs === undefined || createdMs < oldestMs)) oldestMs = createdMs;
    }
    return oldestMs;
  }

  private stateOf(namespace: string): NamespaceState {
    const found = this.namespaces.get(namespace);
    if (found !== undefined) return found;
    this.namespacesMade += 1;
    const state = { waiting: [], heldCount: 0, lastGrant: NEVER + this.namespacesMade };
    this.namespaces.set(namespace, state);
    return state;
  }

  private dropIfIdle(namespace: string, { waiting, heldCount }: NamespaceState): void {
    if (waiting.length === 0 && heldCount === 0) this.namespaces.delete(namespace);
  }

  private enqueue(key: string, request: SlotRequest): void {
    const entry = { ...request, key };
    this.requests.set(key, entry);
    const { waiting } = this.stateOf(request.namespace);
    waiting.splice(indexOf(waiting, entry), 0, entry);
  }

  private dequeue(key: string): void {
    const entry = this.requests.get(key);
    if (entry === undefined) return;
    this.requests.delete(key);
    const state = this.stateOf(entry.namespace);
    state.waiting.splice(indexOf(state.waiting, entry), 1);
    this.dropIfIdle(entry.namespace, state);
  }

  private hold(key: string, { namespace, host, node, createdMs }: SlotRequest): void {
    this.held.set(key, { namespace, host, node, createdMs });
    add(this.hosts, host, 1);
    if (node !== undefined) add(this.nodes, node, 1);
    const state = this.stateOf(namespace);
    state.heldCount += 1;
    this.grants += 1;
    state.lastGrant = this.grants;
  }

  /** @param caller learns of its own slot by the result, and not by `onGrant` */
  private grantFree(caller?: string): void {
    for (let next = this.next(); next !== undefined; next = this.next()) {
      this.dequeue(next.key);
      this.hold(next.key, next);
      if (next.key !== caller) this.onGrant(next.key);
    }
  }

  private next(): Waiting | undefined {
    if (this.requests.size === 0 || this.held.size >= this.limits.total) return undefined;
    const states = [...this.namespaces.values()]
      .filter(({ waiting, heldCount }) => waiting.length > 0 && heldCount < this.limits.perNamespace)
      .sort((a, b) => a.heldCount - b.heldCount || a.lastGrant - b.lastGrant);
    for (const { waiting } of states) {
      const found = waiting.slice(0, MAX_LOOK_AHEAD).find((entry) => this.blockOf(entry) === undefined);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** @returns the limit that is reached, in words */
  private blockOf({ namespace, host, node }: SlotRequest): string | undefined {
    const { total, perNamespace, perNode, perHost } = this.limits;
    if (this.held.size >= total) return limitText(total);
    if (this.stateOf(namespace).heldCount >= perNamespace) return limitText(perNamespace, ' of one namespace');
    if (perHost !== undefined && (this.hosts.get(host) ?? 0) >= perHost) return limitText(perHost, ` to ${host}`);
    if (node !== undefined && (this.nodes.get(node) ?? 0) >= perNode) return limitText(perNode, ` on the node ${node}`);
    return undefined;
  }
}

function limitText(count: number, which = ''): string {
  return count === 1 ? `1 export${which} runs at a time` : `${count} exports${which} run at a time`;
}

function add(counts: Map<string, number>, name: string, change: 1 | -1): void {
  const count = (counts.get(name) ?? 0) + change;
  if (count === 0) counts.delete(name);
  else counts.set(name, count);
}

/** @returns where the entry is, or where it belongs */
function indexOf(sorted: readonly Waiting[], entry: Waiting): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const other = sorted[middle] as Waiting;
    if (other.createdMs < entry.createdMs || (other.createdMs === entry.createdMs && other.key < entry.key)) low = middle + 1;
    else high = middle;
  }
  return low;
}
