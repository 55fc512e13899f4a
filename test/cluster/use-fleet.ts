/**
 * The controller's surroundings for a suite: a real API server with an audit log, a real controller manager,
 * provisioner and snapshotter. The controller and its workers have only the rights of the chart. Each test has a
 * namespace, a destination and a runner of pods of its own.
 */

import assert from 'node:assert/strict';
import { CONTROLLER } from '../helpers/chart.ts';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { attachLoopDevice, type LoopDevice, requireLoopDevices } from '../helpers/loop-device.ts';
import { type S3Fake, startS3Fake } from '../helpers/s3-fake.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { type ApiStorage, STORAGE_PROGRAMS, startApiStorage } from './api-storage.ts';
import type { AuditedRequest } from './audit-log.ts';
import { type AuditedApiServer, startAudited } from './audited-api-server.ts';
import { applyChartAccount, type ChartAccount } from './chart-account.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { type ControllerInProcess, type ControllerInProcessOptions, startController } from './controller-in-process.ts';
import { createScenes, type Scenes } from './export-scenes.ts';
import { installCrd } from './install-crd.ts';
import { requireBinaries } from './kubernetes-binaries.ts';
import { type PodRunner, startPodRunner, type Volume } from './pod-runner.ts';

const NODE = 'node-1';

const CONTROLLER_MANAGER = [
  '--pvclaimbinder-sync-period=1s',
  '--resource-quota-sync-period=1s',
  // The node object has no kubelet that reports.
  '--controllers=*,-node-lifecycle-controller,-persistentvolume-attach-detach-controller',
];

export interface Fleet {
  readonly api: AuditedApiServer;
  readonly storage: ApiStorage;
  /** The controller's account, by the chart. */
  readonly account: ChartAccount;
  readonly namespace: Namespace;
  readonly runner: PodRunner;
  readonly sink: HttpSink;
  readonly s3: S3Fake;
  readonly scenes: Scenes;
  /** Path of a file in the directory of the test. */
  temp(name: string): string;
  /** Starts a controller for the test's namespace in this process. */
  startController(options?: ControllerInProcessOptions): ControllerInProcess;
  /** Requests of the controller and of the workers in all namespaces. */
  requests(): { ofController: AuditedRequest[]; ofWorkers: AuditedRequest[] };
}

interface FleetOptions {
  /** Workers get Block volumes as devices, which needs root. */
  hasDevices?: boolean;
}

/** Call inside `describe`. Skips the suite where the programs are not built. */
export function useFleet({ hasDevices = false }: FleetOptions = {}): Fleet {
  const temp = useTempDir();
  // Filled by the hooks before any test reads it.
  const fleet = { temp } as { -readonly [K in keyof Fleet]: Fleet[K] };
  const controllers: ControllerInProcess[] = [];
  const devices: LoopDevice[] = [];

  async function deviceOf(volume: Volume): Promise<string> {
    const place = fleet.storage.pathOf(volume);
    if (volume.spec.volumeMode !== 'Block') return place;
    const device = await attachLoopDevice(place);
    devices.push(device);
    return device.path;
  }

  before(async function () {
    this.timeout(180_000);
    requireBinaries(this, ...STORAGE_PROGRAMS);
    if (hasDevices) await requireLoopDevices(this);
    fleet.api = await startAudited(this, { controllerManager: true, controllerManagerFlags: CONTROLLER_MANAGER });
    await installCrd(fleet.api);
    await installCrd(fleet.api, 'crd-schedules.yaml');
    fleet.account = await applyChartAccount(fleet.api, 'default', CONTROLLER, { of: 'controller' });
    fleet.storage = await startApiStorage(fleet.api, NODE);
  });

  after(async function () {
    this.timeout(60_000);
    await fleet.storage?.[Symbol.asyncDispose]();
    await fleet.api?.stop();
  });

  fleet.startController = (options = {}) => {
    const controller = startController(fleet.api, {
      namespaces: [fleet.namespace.name],
      kubeconfig: fleet.account.kubeconfig,
      ...options,
    });
    controllers.push(controller);
    return controller;
  };

  fleet.requests = () => {
    const all = fleet.api.requests();
    return {
      ofController: all.filter(({ user }) => user === fleet.account.user),
      ofWorkers: all.filter(({ user }) => /^system:serviceaccount:[^:]+:disklift-worker$/.test(user)),
    };
  };

  beforeEach(async () => {
    const { api, storage } = fleet;
    fleet.namespace = await createNamespace(api);
    await fleet.namespace.secret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
    const pathOf = hasDevices ? deviceOf : storage.pathOf;
    fleet.runner = startPodRunner(api, { flags: ['--allow-destination', '127.0.0.1'], nodeName: NODE, pathOf });
    fleet.sink = await startHttpSink();
    fleet.s3 = await startS3Fake();
    fleet.scenes = createScenes({ ...fleet, directory: temp('.'), node: NODE });
  });

  afterEach(async function () {
    const { runner, sink, s3, namespace } = fleet;
    if (this.currentTest?.state === 'failed') await print(fleet, controllers);
    controllers.length = 0;
    await runner[Symbol.asyncDispose]();
    for (const device of devices.splice(0)) await device[Symbol.asyncDispose]();
    await sink[Symbol.asyncDispose]();
    await s3[Symbol.asyncDispose]();
    const { ofController, ofWorkers } = fleet.requests();
    const isOfTest = (request: AuditedRequest) => request.isForbidden && request.namespace === namespace.name;
    assert.deepEqual([...ofController, ...ofWorkers].filter(isOfTest), [], 'requests beyond the rights of the chart');
  });

  return fleet;
}

async function print({ api, namespace, runner }: Fleet, controllers: readonly ControllerInProcess[]): Promise<void> {
  const { stdout } = await api.kubectl('get', '--namespace', namespace.name, '--output', 'wide', KINDS);
  const pods = await api.kubectl('get', '--namespace', namespace.name, '--output', 'yaml', 'pods');
  const outputs = [...runner.started].map(([key, pod]) => `${key}: ${pod.output().slice(-2000)}`);
  console.error(
    [stdout.toString(), pods.stdout.toString(), ...runner.problems, ...controllers.flatMap(({ warnings }) => warnings), ...outputs].join(
      '\n',
    ),
  );
}

const KINDS = 'diskexports,jobs,pods,persistentvolumeclaims,volumesnapshots,serviceaccounts,rolebindings,leases,events';
