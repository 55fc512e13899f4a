/** Keys with the times at which they are due, as a binary heap: ten thousand of them need no timer each. Pure. */

interface Entry {
  key: string;
  dueMs: number;
}

export class DelayedKeys {
  /** The parent of the entry at `i` is at `(i - 1) >> 1`, and is due no later. */
  private readonly heap: Entry[] = [];
  private readonly dueByKey = new Map<string, number>();

  /** The earliest of several times of a key counts. */
  add(key: string, dueMs: number): void {
    const known = this.dueByKey.get(key);
    if (known !== undefined && known <= dueMs) return;
    this.dueByKey.set(key, dueMs);
    this.rise({ key, dueMs });
  }

  /** The time at which the next key is due. */
  nextDueMs(): number | undefined {
    for (let first = this.heap[0]; first !== undefined; first = this.heap[0]) {
      if (this.dueByKey.get(first.key) === first.dueMs) return first.dueMs;
      // The key had an earlier time as well.
      this.removeFirst();
    }
    return undefined;
  }

  /** Removes the next key. @returns undefined while none is due */
  takeDue(nowMs: number): string | undefined {
    const dueMs = this.nextDueMs();
    if (dueMs === undefined || dueMs > nowMs) return undefined;
    const { key } = this.heap[0] as Entry;
    this.removeFirst();
    this.dueByKey.delete(key);
    return key;
  }

  private rise(entry: Entry): void {
    const { heap } = this;
    let index = heap.length;
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = heap[above] as Entry;
      if (parent.dueMs <= entry.dueMs) break;
      heap[index] = parent;
      index = above;
    }
    heap[index] = entry;
  }

  private removeFirst(): void {
    const { heap } = this;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let index = 0;
    for (;;) {
      const left = 2 * index + 1;
      const [a, b] = [heap[left], heap[left + 1]];
      if (a === undefined) break;
      const [below, child] = b !== undefined && b.dueMs < a.dueMs ? [left + 1, b] : [left, a];
      if (child.dueMs >= last.dueMs) break;
      heap[index] = child;
      index = below;
    }
    heap[index] = last;
  }
}
