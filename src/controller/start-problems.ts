/** Why a Job's pod does not start, from events: the pod itself does not say that a volume cannot be attached. */

import type { Clock } from '../common/clock.ts';
import type { FleetApi } from '../stores/kubernetes/client/fleet-api.ts';
import type { KubeObject } from '../stores/kubernetes/client/objects.ts';
import type { Children, PodProblem } from './observed.ts';
import { problemOfEvents } from './worker-pod.ts';

export interface StartProblems {
  /**
   * @returns the problem of the present pod, of the Job without a pod, or of a clone without a volume
   * @throws DiskliftError of the API server
   */
  find(children: Children): Promise<PodProblem | undefined>;
}

interface Look {
  atMs: number;
  /** Looks so far: each next one comes later. */
  count: number;
  problem: PodProblem | undefined;
}

/** A pod that starts in this time costs no look. */
const FIRST_LOOK_MS = 3000;
const MAX_LOOK_MS = 60_000;

/** Looks that are remembered. */
const MAX_LOOKS = 1000;

export function createStartProblems({ api, clock }: { api: Pick<FleetApi, 'events'>; clock: Clock }): StartProblems {
  const looks = new Map<string, Look>();

  async function look(target: Pick<KubeObject, 'metadata'>, createdMs: number): Promise<PodProblem | undefined> {
    const { uid, namespace } = target.metadata;
    const nowMs = clock.nowMs();
    const last = looks.get(uid) ?? { atMs: createdMs, count: 0, problem: undefined };
    if (nowMs < last.atMs + Math.min(FIRST_LOOK_MS * 2 ** last.count, MAX_LOOK_MS)) return last.problem;
    const { items } = await api.events.list(namespace, { fieldSelector: `involvedObject.uid=${uid}` });
    const problem = problemOfEvents(items);
    looks.delete(uid);
    looks.set(uid, { atMs: nowMs, count: last.count + 1, problem });
    for (const key of looks.keys()) {
      if (looks.size <= MAX_LOOKS) break;
      looks.delete(key);
    }
    return problem;
  }

  return {
    async find({ job, pods, clones }) {
      if (job === undefined || pods.some(({ phase }) => phase === 'Running')) return undefined;
      const pending = pods.find(({ phase }) => phase === 'Pending');
      const createdMs = Date.parse(job.metadata.creationTimestamp ?? '') || 0;
      // The pod of an unbound clone is only unschedulable. The storage's reason is an event of the clone.
      const unbound = [...clones.values()].find(({ status }) => status?.phase !== 'Bound');
      if (unbound !== undefined) {
        const problem = await look(unbound, createdMs);
        if (problem !== undefined) return problem;
      }
      if (pending?.problem !== undefined) return undefined;
      if (pending === undefined) return pods.length === 0 ? look(job, createdMs) : undefined;
      const metadata = { ...job.metadata, name: pending.name, uid: pending.uid };
      return look({ metadata }, createdMs);
    },
  };
}
