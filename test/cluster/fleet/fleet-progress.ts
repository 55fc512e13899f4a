/** Watches the Jobs and exports of a fleet: how many Jobs there are, and whether the namespaces advance together. */

import { systemClock } from '../../../src/common/clock.ts';
import { exportKeyOf, MANAGED_SELECTOR } from '../../../src/controller/export-objects.ts';
import { isFields } from '../../../src/resource/schema.ts';
import { createReflector } from '../../../src/stores/kubernetes/cache/reflector.ts';
import { ALL_NAMESPACES } from '../../../src/stores/kubernetes/client/contract.ts';
import type { JobObject } from '../../../src/stores/kubernetes/client/fleet-objects.ts';
import type { ExportObject } from '../../../src/stores/kubernetes/client/objects.ts';
import type { PlayersApi } from './fleet-api.ts';
import type { Member } from './fleet-plan.ts';
import { pinnedNodeOf } from './pinned-node.ts';

export interface Most {
  jobs: number;
  jobsOfNamespace: number;
  /** Jobs that must run on one node. */
  jobsOfNode: number;
  /** Difference of ended exports between two namespaces in which exports still wait. */
  spread: number;
}

interface NamespaceProgress {
  waiting: number;
  ended: number;
}

export interface FleetProgressOptions {
  api: PlayersApi;
  members: readonly Member[];
  signal: AbortSignal;
}

export class FleetProgress {
  readonly most: Most = { jobs: 0, jobsOfNamespace: 0, jobsOfNode: 0, spread: 0 };
  /** Exports whose status somebody has written. */
  readonly seen = new Set<string>();
  /** Phases of the exports that have ended. */
  readonly phases = new Map<string, string>();
  readonly problems: string[] = [];
  readonly ended: Promise<unknown>;
  private readonly namespaces = new Map<string, NamespaceProgress>();
  private readonly begun = new Set<string>();
  private readonly jobs = new Map<string, { namespace: string; node: string | undefined }>();
  private readonly jobsOf = new Map<string, number>();

  constructor({ api, members, signal }: FleetProgressOptions) {
    for (const { namespace } of members) this.progressOf(namespace).waiting += 1;
    const shared = {
      clock: systemClock,
      random: Math.random,
      warn: (text: string) => void this.problems.push(text),
    };
    const jobs = createReflector<JobObject>({
      ...shared,
      namespace: ALL_NAMESPACES,
      resource: api.objects.jobs,
      labelSelector: MANAGED_SELECTOR,
      onKey: (key) => this.onJob(key, jobs.get(key)),
    });
    const exports = createReflector<ExportObject>({
      ...shared,
      namespace: ALL_NAMESPACES,
      resource: api.objects.exports,
      transform: ({ metadata, status }) => ({ metadata, status }),
      onKey: (key) => this.onExport(key, exports.get(key)),
    });
    this.ended = Promise.all([jobs.run(signal), exports.run(signal)]);
  }

  get endedCount(): number {
    return this.phases.size;
  }

  get jobCount(): number {
    return this.jobs.size;
  }

  private progressOf(namespace: string): NamespaceProgress {
    const found = this.namespaces.get(namespace) ?? { waiting: 0, ended: 0 };
    this.namespaces.set(namespace, found);
    return found;
  }

  private onJob(key: string, job: JobObject | undefined): void {
    const known = this.jobs.get(key);
    if (job === undefined) {
      if (known === undefined) return;
      this.jobs.delete(key);
      this.count(known, -1);
    } else if (known === undefined) {
      const { namespace } = job.metadata;
      const added = { namespace, node: pinnedNodeOf(job.spec.template.spec) };
      this.jobs.set(key, added);
      this.count(added, 1);
      this.begin(exportKeyOf(job.metadata) ?? key, namespace);
    }
  }

  private count({ namespace, node }: { namespace: string; node: string | undefined }, change: 1 | -1): void {
    const add = (name: string) => {
      const count = (this.jobsOf.get(name) ?? 0) + change;
      this.jobsOf.set(name, count);
      return count;
    };
    const { most } = this;
    most.jobs = Math.max(most.jobs, this.jobs.size);
    most.jobsOfNamespace = Math.max(most.jobsOfNamespace, add(`namespace ${namespace}`));
    if (node !== undefined) most.jobsOfNode = Math.max(most.jobsOfNode, add(`node ${node}`));
  }

  private begin(key: string, namespace: string): void {
    if (this.begun.has(key)) return;
    this.begun.add(key);
    this.progressOf(namespace).waiting -= 1;
  }

  private onExport(key: string, object: ExportObject | undefined): void {
    if (!isFields(object?.status)) return;
    const { status, metadata } = object;
    if (status.observedGeneration !== undefined) this.seen.add(key);
    if (status.completionTime === undefined || this.phases.has(key)) return;
    this.phases.set(key, String(status.phase));
    // An export may end without a Job.
    this.begin(key, metadata.namespace);
    this.progressOf(metadata.namespace).ended += 1;
    const counts = [...this.namespaces.values()].filter(({ waiting }) => waiting > 0).map(({ ended }) => ended);
    if (counts.length > 1) this.most.spread = Math.max(this.most.spread, Math.max(...counts) - Math.min(...counts));
  }
}
