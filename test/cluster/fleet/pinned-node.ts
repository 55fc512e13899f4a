/** The node on which the controller wants a worker, from the affinity of its pod. */

interface PodSpecWithAffinity {
  affinity?: {
    nodeAffinity?: {
      requiredDuringSchedulingIgnoredDuringExecution?: {
        nodeSelectorTerms: readonly { matchFields?: readonly { values?: readonly string[] }[] }[];
      };
    };
  };
}

/** @returns undefined when any node will do */
export function pinnedNodeOf(spec: object): string | undefined {
  const { affinity } = spec as PodSpecWithAffinity;
  const terms = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  return terms?.[0]?.matchFields?.[0]?.values?.[0];
}
