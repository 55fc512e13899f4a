/** Keys by group, and the groups of each key. */
export class GroupedKeys {
  private readonly groups = new Map<string, Set<string>>();
  private readonly byKey = new Map<string, readonly string[]>();

  get(group: string): ReadonlySet<string> {
    return this.groups.get(group) ?? EMPTY;
  }

  /** Groups that have a key. */
  names(): Iterable<string> {
    return this.groups.keys();
  }

  groupsOf(key: string): readonly string[] {
    return this.byKey.get(key) ?? [];
  }

  set(key: string, groups: readonly string[]): void {
    const before = this.groupsOf(key);
    if (groups.length === before.length && groups.every((group, index) => group === before[index])) return;
    for (const group of before) {
      const members = this.groups.get(group);
      members?.delete(key);
      if (members?.size === 0) this.groups.delete(group);
    }
    if (groups.length === 0) this.byKey.delete(key);
    else this.byKey.set(key, groups);
    for (const group of groups) {
      const members = this.groups.get(group) ?? new Set<string>();
      this.groups.set(group, members.add(key));
    }
  }
}

const EMPTY: ReadonlySet<string> = new Set();
