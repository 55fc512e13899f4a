/**
 * The controller as wiring, metrics and health use it: createController (run-controller.ts), then `run` once. Its other
 * members may be read at any time. Nothing throws; failures of the API server are retried for ever.
 */

import type { Clock } from '../common/clock.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import type { FleetApi } from '../stores/kubernetes/client/fleet-api.ts';
import type { ExportObject } from '../stores/kubernetes/client/objects.ts';
import type { EventPoster } from '../stores/kubernetes/store/kubernetes-events.ts';
import type { ObjectCounts } from './count-objects.ts';
import type { FleetCache } from './fleet-cache.ts';
import type { SlotLimits } from './slot-queue.ts';
import type { JobTemplate } from './worker-job.ts';

export interface ControllerOptions {
  api: FleetApi;
  /** Empty: all namespaces. */
  namespaces: readonly string[];
  limits: SlotLimits;
  template: JobTemplate;
  podStartTimeoutMs: number;
  /** ClusterRole that the workers of a namespace get. */
  workerClusterRole: string;
  /** Names the destination's host. */
  hostOf(request: DiskExport): string;
  events: EventPoster;
  /** @throws DiskliftError `ExecutorLost` when another controller may lead */
  assertLeading(): Promise<void>;
  clock: Clock;
  /** Returns a number in [0, 1). */
  random(): number;
  /** @param key of the export that the message is about */
  warn(message: string, key?: string): void;
  observer?: ControllerObserver | undefined;
  /** Called when an export was added, changed or removed. Must not throw. */
  onExport?: ((key: string) => void) | undefined;
}

/** Receives the facts that metrics count. */
export interface ControllerObserver {
  /** A key was worked on. @param failure code of the error, or `InternalError`; undefined after a success */
  onReconcile?(durationMs: number, failure: string | undefined): void;
  /** An event of type Warning was recorded. @param reason one word, of few */
  onWarning?(reason: string): void;
}

export interface ControllerFacts extends ObjectCounts {
  waitingCount: number;
  /** Creation of the oldest waiting export, in milliseconds since the epoch. */
  oldestWaitingMs: number | undefined;
  heldCount: number;
}

export interface Controller {
  /** Works until `signal` is aborted. Never throws. */
  run(signal: AbortSignal): Promise<void>;
  /** Counts of the present moment. Takes time for each namespace and each object of the controller. */
  facts(): ControllerFacts;
  /** Keys of all exports: NAMESPACE/NAME. */
  exportKeys(): Iterable<string>;
  /** The export as the controller knows it. If it has ended, its status has only what slim-objects.ts keeps. */
  exportOf(key: string): ExportObject | undefined;
  readonly hasSynced: boolean;
  /** How up to date its copies are. */
  readonly freshness: Pick<FleetCache, 'problem' | 'silenceMs'>;
}
