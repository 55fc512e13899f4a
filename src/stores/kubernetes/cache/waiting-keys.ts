import { namespaceOf } from '../client/contract.ts';

/**
 * Keys that wait for work, in turns among namespaces and in order within each: a thousand objects of one namespace do
 * not delay the first one of another. Urgent keys take every second turn. Pure.
 */
export class WaitingKeys {
  private readonly urgent = new Set<string>();
  /** By namespace. The first namespace has the next turn. */
  private readonly others = new Map<string, Set<string>>();
  private wasUrgent = false;

  /** A key that is there already keeps its place, unless it becomes urgent. */
  add(key: string, isUrgent: boolean): void {
    if (this.urgent.has(key)) return;
    const namespace = namespaceOf(key);
    const keys = this.others.get(namespace);
    if (!isUrgent) {
      this.others.set(namespace, (keys ?? new Set()).add(key));
      return;
    }
    this.urgent.add(key);
    keys?.delete(key);
    if (keys?.size === 0) this.others.delete(namespace);
  }

  /** Removes the next key. @returns undefined without keys */
  take(): string | undefined {
    this.wasUrgent = this.urgent.size > 0 && !(this.wasUrgent && this.others.size > 0);
    if (!this.wasUrgent) return this.takeOther();
    const [key] = this.urgent;
    this.urgent.delete(key as string);
    return key;
  }

  private takeOther(): string | undefined {
    const [next] = this.others;
    if (next === undefined) return undefined;
    const [namespace, keys] = next;
    const [key] = keys;
    keys.delete(key as string);
    this.others.delete(namespace);
    if (keys.size > 0) this.others.set(namespace, keys);
    return key;
  }
}
