/** The control groups of a node's pods, under the node's own name, for both versions of cgroups. */

import { existsSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const ROOT = '/sys/fs/cgroup';

/** Version 2 has one tree, version 1 one for each controller. */
function trees(): string[] {
  if (existsSync(path.join(ROOT, 'cgroup.controllers'))) return [ROOT];
  return readdirSync(ROOT).map((name) => path.join(ROOT, name));
}

/** @returns the group in the notation of the kubelet */
export function makeCgroups(name: string): string {
  for (const tree of trees()) {
    const controls = path.join(tree, 'cgroup.subtree_control');
    if (tree === ROOT && existsSync(controls)) writeFileSync(controls, '+cpu +cpuset +memory +pids +io +hugetlb');
    mkdirSync(path.join(tree, name), { recursive: true });
  }
  return `/${name}`;
}

/** Removes the groups, which are empty when all processes have ended. */
export function removeCgroups(name: string): void {
  const remove = (directory: string) => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) if (entry.isDirectory()) remove(path.join(directory, entry.name));
    rmdirSync(directory);
  };
  for (const tree of trees()) if (existsSync(path.join(tree, name))) remove(path.join(tree, name));
}
