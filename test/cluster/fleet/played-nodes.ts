/**
 * Plays scheduler, kubelets and workers: binds the pods of the controller's Jobs to nodes, writes the status of their
 * exports as a worker does, and ends them.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock, timestamp } from '../../../src/common/clock.ts';
import { exportKeyOf, MANAGED_SELECTOR } from '../../../src/controller/export-objects.ts';
import type { Condition, DiskExportStatus } from '../../../src/resource/disk-export.ts';
import { createReflector, type RunningReflector } from '../../../src/stores/kubernetes/cache/reflector.ts';
import { isApiFailure } from '../../../src/stores/kubernetes/client/api-failure.ts';
import { ALL_NAMESPACES } from '../../../src/stores/kubernetes/client/contract.ts';
import type { FleetPodObject } from '../../../src/stores/kubernetes/client/fleet-objects.ts';
import type { PlayersApi } from './fleet-api.ts';
import { pinnedNodeOf } from './pinned-node.ts';

export interface PlayedNodesOptions {
  api: PlayersApi;
  nodes: readonly string[];
  /** Duration of each export. */
  workMs: number;
  signal: AbortSignal;
}

export interface PlayedNodes {
  /** Why a pod was not played to its end. */
  readonly failures: string[];
  readonly ended: Promise<void>;
}

export function startPlayedNodes(options: PlayedNodesOptions): PlayedNodes {
  const nodes = new Nodes(options);
  return { failures: nodes.failures, ended: nodes.run() };
}

type Pod = FleetPodObject;

class Nodes {
  readonly failures: string[] = [];
  private readonly options: PlayedNodesOptions;
  private readonly pods: RunningReflector<Pod>;
  private readonly known = new Set<string>();
  private scheduled = 0;

  constructor(options: PlayedNodesOptions) {
    this.options = options;
    this.pods = createReflector<Pod>({
      resource: options.api.objects.pods,
      namespace: ALL_NAMESPACES,
      labelSelector: MANAGED_SELECTOR,
      onKey: (key) => this.onPod(this.pods.get(key)),
      clock: systemClock,
      random: Math.random,
      warn: (message) => void this.failures.push(message),
    });
  }

  run(): Promise<void> {
    return this.pods.run(this.options.signal);
  }

  private onPod(pod: Pod | undefined): void {
    if (pod === undefined) return;
    const { uid, deletionTimestamp } = pod.metadata;
    if (deletionTimestamp !== undefined) void this.safely(pod, () => this.remove(pod));
    else if (!this.known.has(uid)) {
      this.known.add(uid);
      void this.safely(pod, () => this.play(pod));
    }
  }

  private async safely({ metadata }: Pod, task: () => Promise<unknown>): Promise<void> {
    try {
      await task();
    } catch (error) {
      // A pod that was removed meanwhile needs nothing more.
      if (isApiFailure(error, 'NotFound') || this.options.signal.aborted) return;
      this.failures.push(`${metadata.namespace}/${metadata.name}: ${(error as Error).message}`);
    }
  }

  private async play(pod: Pod): Promise<void> {
    const nodeName = pinnedNodeOf(pod.spec) ?? this.nextNode();
    await this.bind(pod, nodeName);
    await this.setPodStatus(pod, 'Running', { running: { startedAt: now() } });
    await this.setExportStatus(pod, claimedStatus(pod, nodeName));
    await sleep(this.options.workMs);
    await this.setExportStatus(pod, succeededStatus());
    await this.setPodStatus(pod, 'Succeeded', { terminated: { exitCode: 0, reason: 'Completed', startedAt: now(), finishedAt: now() } });
  }

  private nextNode(): string {
    this.scheduled += 1;
    return this.options.nodes[this.scheduled % this.options.nodes.length] as string;
  }

  private bind({ metadata: { namespace, name } }: Pod, nodeName: string): Promise<unknown> {
    return this.options.api.connection.call({
      verb: 'create',
      resource: 'pods/binding',
      target: `${namespace}/${name}`,
      method: 'POST',
      path: `/api/v1/namespaces/${namespace}/pods/${name}/binding`,
      body: { apiVersion: 'v1', kind: 'Binding', metadata: { name }, target: { apiVersion: 'v1', kind: 'Node', name: nodeName } },
    });
  }

  private remove({ metadata: { namespace, name, uid } }: Pod): Promise<unknown> {
    return this.options.api.connection.call({
      verb: 'delete',
      resource: 'pods',
      target: `${namespace}/${name}`,
      method: 'DELETE',
      path: `/api/v1/namespaces/${namespace}/pods/${name}`,
      body: { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0, preconditions: { uid } },
    });
  }

  private setPodStatus({ metadata, spec }: Pod, phase: string, state: object): Promise<unknown> {
    const containerStatuses = spec.containers.map(({ name }) => ({
      ...{ name, state, image: 'registry.example/disklift:test', imageID: '' },
      ...{ ready: phase === 'Running', restartCount: 0 },
    }));
    return this.options.api.objects.pods.patch(metadata, { patch: { status: { phase, containerStatuses } }, subresource: 'status' });
  }

  private setExportStatus({ metadata }: Pod, status: DiskExportStatus): Promise<unknown> {
    const [namespace = '', name = ''] = exportKeyOf(metadata)?.split('/') ?? [];
    return this.options.api.objects.exports.patch({ namespace, name }, { patch: { status }, subresource: 'status' });
  }
}

function now(): string {
  return timestamp(Date.now());
}

function conditions(succeeded: Condition['status'], reason: string, message: string): Condition[] {
  const isOver = succeeded !== 'Unknown';
  const common = { reason, message, lastTransitionTime: now(), observedGeneration: 1 };
  return [
    { type: 'Succeeded', status: succeeded, ...common },
    { type: 'Finished', status: isOver ? 'True' : 'False', ...common },
    { type: 'Progressing', status: isOver ? 'False' : 'True', ...common },
    { ...common, type: 'SourceReady', status: 'True', reason: 'DiskOpened', message: 'all disks were opened' },
  ];
}

function claimedStatus({ metadata }: Pod, nodeName: string): DiskExportStatus {
  const message = 'disk.img: is sent (attempt 1)';
  return {
    phase: 'Streaming',
    message,
    conditions: conditions('Unknown', 'Streaming', message),
    executor: { podName: metadata.name, podUID: metadata.uid, nodeName },
    attempts: 1,
    progress: { percent: 0, virtualBytes: 10_737_418_240, imageBytes: 2_147_680_256, sentBytes: 0, skippedBytes: 0, written: '0' },
    disks: [{ path: 'disk.img', format: 'raw', phase: 'Streaming', virtualBytes: 10_737_418_240, attempts: 1 }],
  };
}

function succeededStatus(): DiskExportStatus {
  const message = '1 disk has arrived: 2.0Gi were sent';
  const [virtualBytes, imageBytes] = [10_737_418_240, 2_147_680_256];
  const disk = {
    path: 'disk.img',
    format: 'raw',
    phase: 'Succeeded',
    virtualBytes,
    imageBytes,
    sentBytes: imageBytes,
    attempts: 1,
  } as const;
  return {
    phase: 'Succeeded',
    message,
    conditions: conditions('True', 'Completed', message),
    completionTime: now(),
    duration: '2s',
    progress: { percent: 100, virtualBytes, imageBytes, sentBytes: imageBytes, skippedBytes: virtualBytes - imageBytes, written: '2.0Gi' },
    disks: [
      {
        ...disk,
        clusters: { total: 163_840, scanned: 163_840, skipped: 131_072, written: 32_768 },
        location: 'https://images.example/backups/fleet/export/disk.img.qcow2',
        etag: '"9b2cf535f27731c974343645a3985328"',
        sha256: 'a'.repeat(64),
        proof: 'Digest',
      },
    ],
  };
}
