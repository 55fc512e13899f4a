/** Runs the controller against a cluster in memory, from the creation of exports until nothing is left to do. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../../src/common/clock.ts';
import type { ControllerOptions } from '../../../src/controller/contract.ts';
import { createController } from '../../../src/controller/run-controller.ts';
import { isFields } from '../../../src/resource/schema.ts';
import { createEventPoster } from '../../../src/stores/kubernetes/store/kubernetes-events.ts';
import { createManualClock } from '../manual-clock.ts';
import { type ClusterPlan, createClusterPrograms } from './cluster-programs.ts';
import { type ApiCall, createMemoryFleet, type Intercept, type MemoryFleet, refused } from './memory-fleet.ts';

export const NAMESPACE = 'vms';

export interface Scene {
  name: string;
  plan?: Partial<ClusterPlan>;
  /** Creates the objects of users, among them the exports. */
  setUp(fleet: MemoryFleet): void;
  /** Called each second before the programs of the cluster. */
  eachSecond?: (fleet: MemoryFleet, second: number) => void;
  options?: Partial<ControllerOptions>;
  maxSeconds?: number;
}

export type FaultKind =
  /** 500; not carried out. */
  | 'refuse'
  /** The answer never comes; the request was carried out. */
  | 'lose'
  /** Neither is the request carried out. */
  | 'hang'
  | 'conflict'
  | 'kill before'
  | 'kill after'
  /** The user acts before the call. */
  | 'act';

export interface Fault {
  /** Index of the call, counted from 0 over all processes. */
  index: number;
  kind: FaultKind;
  act?: (fleet: MemoryFleet) => void;
}

export interface SceneRun {
  /** Calls of the controller, except events, in their order. */
  calls: string[];
  /** Each export's end, one a line. */
  ends: string[];
  /** Names of all objects at the end, without events. */
  names: string[];
  created: readonly string[];
  /** Most pods of one export that ran at one time, and of all exports that existed. */
  mostWorkers: number;
  mostPods: number;
  warnings: string[];
  seconds: number;
  hasSettled: boolean;
  fleet: MemoryFleet;
}

/** A call without an answer ends after this time. */
const CALL_LIMIT_MS = 15_000;

/** As long as another process needs to get the lease of a dead leader. */
const RESTART_SECONDS = 4;

/** Nothing is left to do for this time at the end of a scene. Timers of the controller are shorter. */
const QUIET_SECONDS = 6;

/** A Job template without any part that an administrator adds. */
export const TEMPLATE: ControllerOptions['template'] = {
  image: 'disklift:test',
  imagePullPolicy: 'IfNotPresent',
  serviceAccountName: 'disklift-worker',
  labels: {},
  annotations: {},
  nodeSelector: {},
  tolerations: [],
  imagePullSecrets: [],
  priorityClassName: undefined,
  resources: {},
  env: [],
  securityContextMode: 'KubeVirt',
  seLinuxLevel: '',
};

export async function runScene(scene: Scene, given?: Fault | ((index: number) => Fault | undefined)): Promise<SceneRun> {
  const { plan, setUp, eachSecond, options, maxSeconds = 400 } = scene;
  const faultAt = typeof given === 'function' ? given : (index: number) => (index === given?.index ? given : undefined);
  const clock = createManualClock();
  const fleet = createMemoryFleet(clock);
  const programs = createClusterPrograms(fleet, { snapshotSteps: 2, workers: ['succeeds'], ...plan }, clock);
  const calls: string[] = [];
  const warnings: string[] = [];
  let stop = new AbortController();
  let restartAt: number | undefined = 0;
  fleet.put('namespaces', { metadata: { name: NAMESPACE, finalizers: ['kubernetes'] } });
  setUp(fleet);

  /** @param own aborted when the instance is dead: it sends nothing any more */
  const interceptOf =
    (own: AbortController): Intercept =>
    async (call, carryOut) => {
      const never = new Promise<never>(() => {});
      if (own.signal.aborted) return never;
      const index = calls.push(textOf(call)) - 1;
      const fault = faultAt(index);
      if (fault === undefined) return carryOut();
      if (fault.kind === 'act') fault.act?.(fleet);
      if (fault.kind === 'act') return carryOut();
      if (fault.kind === 'refuse') throw refused(500, textOf(call), 'InternalError', 'etcd is away');
      if (fault.kind === 'conflict') throw refused(409, textOf(call), 'Conflict', 'the object has been modified');
      if (fault.kind === 'lose') carryOut();
      if (fault.kind === 'kill after') carryOut();
      if (fault.kind === 'lose' || fault.kind === 'hang') return unanswered(call, clock);
      own.abort();
      restartAt = programsSecond + RESTART_SECONDS;
      return never;
    };

  function start(): void {
    const own = new AbortController();
    stop = own;
    const api = fleet.client(interceptOf(own));
    const warn = (message: string) => void warnings.push(message);
    void createController({
      api,
      namespaces: [],
      limits: { total: 10, perNamespace: 5, perNode: 5 },
      template: TEMPLATE,
      podStartTimeoutMs: 120_000,
      workerClusterRole: 'disklift-worker',
      hostOf: () => 'images.example',
      events: createEventPoster({ events: api.events, clock, instance: 'controller-0', warn }),
      assertLeading: async () => {},
      clock,
      random: () => 0.5,
      warn,
      ...options,
    })
      .run(own.signal)
      .catch((error: unknown) => warnings.push(`the controller ended: ${(error as Error).stack}`));
  }

  let programsSecond = 0;
  let quiet = 0;
  for (; programsSecond < maxSeconds && quiet < QUIET_SECONDS; programsSecond += 1) {
    if (restartAt !== undefined && programsSecond >= restartAt) {
      restartAt = undefined;
      start();
    }
    eachSecond?.(fleet, programsSecond);
    programs.step();
    await nextTurn();
    await clock.advance(1000);
    await nextTurn();
    quiet = isSettled(fleet) ? quiet + 1 : 0;
  }
  stop.abort();
  await nextTurn();
  return {
    calls,
    ends: fleet.all('exports').map((each) => `${each.metadata.name}: ${endOf(each.status)}`),
    names: fleet.names().filter((name) => !name.startsWith('events ')),
    created: fleet.created,
    mostWorkers: programs.mostWorkers,
    mostPods: programs.mostPods,
    warnings,
    seconds: programsSecond,
    hasSettled: quiet >= QUIET_SECONDS,
    fleet,
  };
}

function textOf({ verb, resource, name }: ApiCall): string {
  return `${verb} ${resource} ${name}`;
}

async function unanswered({ options, ...call }: ApiCall, clock: Clock): Promise<never> {
  await clock.delay(options.limitMs ?? CALL_LIMIT_MS, options.signal ?? new AbortController().signal);
  throw refused(504, textOf({ options, ...call }), 'Timeout', 'the answer did not come');
}

/** Every export has ended or is gone, and no object of the controller is left. */
function isSettled(fleet: MemoryFleet): boolean {
  const isOver = fleet
    .all('exports')
    .every(({ metadata, status }) => status?.completionTime !== undefined && metadata.deletionTimestamp === undefined);
  const kinds = [
    'jobs',
    'pods',
    'configMaps',
    'persistentVolumeClaims',
    'volumeSnapshots',
    'virtualMachineSnapshots',
    'serviceAccounts',
    'roleBindings',
  ] as const;
  const isManaged = (kind: (typeof kinds)[number]) =>
    fleet.all(kind).some(({ metadata }) => metadata.labels?.['app.kubernetes.io/managed-by'] === 'disklift-controller');
  const isEnding = fleet.all('namespaces').some(({ metadata }) => metadata.deletionTimestamp !== undefined);
  return isOver && !isEnding && !kinds.some(isManaged);
}

function endOf(status: unknown): string {
  if (!isFields(status) || !Array.isArray(status.conditions)) return 'has no status';
  const find = (type: string) => Array.isArray(status.conditions) && status.conditions.find((each) => each.type === type);
  const parts = [status.phase, find('Succeeded')?.reason, status.consistency, find('VolumesLeftOut') ? 'VolumesLeftOut' : undefined];
  return parts.filter((part) => part !== undefined).join(' ');
}
