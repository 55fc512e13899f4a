/**
 * Plays scheduler and kubelet for the workers of the controller on an API server without nodes: it starts the pod's
 * command as a process of this machine, with the pod's own account and rights. The processes are real workers.
 */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiServer } from './api-server.ts';
import { writeKubeconfig } from './kubeconfig.ts';

const BIN = path.join(import.meta.dirname, '..', '..', 'src', 'bin.ts');
const POLL_MS = 100;
const SELECTOR = 'app.kubernetes.io/managed-by=disklift-controller';

export interface PodRunnerOptions {
  /** Flags of every worker beside those of its pod. */
  flags?: readonly string[];
  /** Directory or device of a bound volume, from its PersistentVolume. */
  pathOf?(volume: Volume): string | Promise<string>;
  nodeName?: string;
}

// biome-ignore lint/suspicious/noExplicitAny: objects of the API server, for the test to look at
export type Volume = any;
// biome-ignore lint/suspicious/noExplicitAny: as above
type Pod = any;

export interface PodRunner extends AsyncDisposable {
  /** Pods that were started, by NAMESPACE/NAME, with the output of their processes. */
  readonly started: ReadonlyMap<string, RunningPod>;
  /** While it holds pods back, they stay Pending. */
  hold(isHeld: boolean): void;
  /** While the registry does not answer, the images of pods cannot be pulled. */
  failImages(areMissing: boolean): void;
  /** Failures of the runner itself. */
  readonly problems: readonly string[];
}

interface RunningPod {
  pod: Pod;
  process: ChildProcess;
  output(): string;
}

export function startPodRunner(api: ApiServer, options: PodRunnerOptions = {}): PodRunner {
  const runner = new Runner(api, options);
  void runner.run();
  return runner;
}

class Runner implements PodRunner {
  readonly started = new Map<string, RunningPod>();
  private readonly api: ApiServer;
  private readonly options: PodRunnerOptions;
  private readonly ending = new Set<string>();
  readonly problems: string[] = [];
  private isHeld = false;
  private areImagesMissing = false;
  private isStopped = false;
  private running: Promise<void> | undefined;

  constructor(api: ApiServer, options: PodRunnerOptions) {
    this.api = api;
    this.options = options;
  }

  hold(isHeld: boolean): void {
    this.isHeld = isHeld;
  }

  failImages(areMissing: boolean): void {
    this.areImagesMissing = areMissing;
  }

  run(): Promise<void> {
    this.running ??= this.loop();
    return this.running;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isStopped = true;
    await this.running;
    for (const { process: child } of this.started.values()) child.kill('SIGKILL');
  }

  private async loop(): Promise<void> {
    while (!this.isStopped) {
      const { body, status } = await this.api.request(`/api/v1/pods?labelSelector=${encodeURIComponent(SELECTOR)}`).catch(() => NONE);
      if (status === 200)
        for (const pod of body.items) await this.handle(pod).catch((error: Error) => this.problems.push(`${keyOf(pod)}: ${error.message}`));
      await sleep(POLL_MS);
    }
  }

  private async handle(pod: Pod): Promise<void> {
    const key = keyOf(pod);
    if (pod.metadata.deletionTimestamp !== undefined) return this.end(key, pod);
    if (this.isHeld || this.started.has(key) || pod.status.phase !== 'Pending') return;
    const places = await this.placesOf(pod);
    if (places === undefined) return;
    if (pod.spec.nodeName === undefined) await this.bind(pod);
    if (!this.areImagesMissing) return this.start(key, pod, places);
    const [container] = pod.spec.containers;
    const waiting = { reason: 'ErrImagePull', message: `failed to pull ${container.image}: no such host` };
    await this.setStatus(pod, { containerStatuses: [statusOf(container, { waiting })] });
  }

  private async bind(pod: Pod): Promise<void> {
    await this.request(pod, '/binding', 'POST', {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name: pod.metadata.name },
      target: { apiVersion: 'v1', kind: 'Node', name: this.nodeName },
    });
  }

  private get nodeName(): string {
    return this.options.nodeName ?? 'node-of-the-test';
  }

  /** @returns the path of each volume; undefined while a claim is not bound */
  private async placesOf(pod: Pod): Promise<Map<string, string> | undefined> {
    const places = new Map<string, string>();
    for (const { name, persistentVolumeClaim } of pod.spec.volumes ?? []) {
      if (persistentVolumeClaim === undefined) continue;
      assert.equal(persistentVolumeClaim.readOnly, true, 'the claim is mounted read-only');
      const claimPlace = `/api/v1/namespaces/${pod.metadata.namespace}/persistentvolumeclaims/${persistentVolumeClaim.claimName}`;
      const claim = await this.get(claimPlace);
      if (claim?.status?.phase !== 'Bound') {
        if (claim !== undefined) await this.selectNode(claimPlace, claim);
        return undefined;
      }
      const volume = await this.get(`/api/v1/persistentvolumes/${claim.spec.volumeName}`);
      places.set(name, (await this.options.pathOf?.(volume)) ?? volume.spec.hostPath?.path ?? volume.spec.local?.path);
    }
    return places;
  }

  /** As the scheduler does for a claim that binds when a pod uses it. */
  private async selectNode(place: string, { metadata, spec }: Volume): Promise<void> {
    if (metadata.annotations?.[SELECTED_NODE] !== undefined || spec.storageClassName === undefined) return;
    const storageClass = await this.get(`/apis/storage.k8s.io/v1/storageclasses/${spec.storageClassName}`);
    if (storageClass?.volumeBindingMode !== 'WaitForFirstConsumer') return;
    const body = { metadata: { annotations: { [SELECTED_NODE]: this.nodeName } } };
    await this.api.request(place, { method: 'PATCH', body, contentType: 'application/merge-patch+json' });
  }

  private async start(key: string, pod: Pod, places: ReadonlyMap<string, string>): Promise<void> {
    const [container] = pod.spec.containers;
    const mounted = new Map<string, string>();
    for (const { name, mountPath, devicePath } of [...(container.volumeMounts ?? []), ...(container.volumeDevices ?? [])]) {
      const place = places.get(name);
      if (place !== undefined) mounted.set(mountPath ?? devicePath, place);
    }
    const args = container.args.map((word: string) => {
      const [volume = '', inside = ''] = word.split(/=(?=\/)/);
      const place = mounted.get(inside);
      return place === undefined ? word : `${volume}=${place}`;
    });
    const env = await this.environmentOf(pod, container);
    const kubeconfig = await this.kubeconfigOf(pod);
    const flags = ['--kubeconfig', kubeconfig, '--listen-host', '127.0.0.1', '--listen-port', '0', '--lease-duration-seconds', '4'];
    const child = spawn(process.execPath, [BIN, ...args, ...flags, ...(this.options.flags ?? [])], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    const exited = once(child, 'exit');
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
    this.started.set(key, { pod, process: child, output: () => text });
    await this.setStatus(pod, { phase: 'Running', containerStatuses: [statusOf(container, { running: { startedAt: now() } })] });
    void exited.then(async ([code]) => {
      const exitCode: number = code ?? 137;
      const state = { terminated: { exitCode, reason: exitCode === 0 ? 'Completed' : 'Error', startedAt: now(), finishedAt: now() } };
      const phase = exitCode === 0 ? 'Succeeded' : 'Failed';
      await this.setStatus(pod, { phase, containerStatuses: [statusOf(container, state)] }).catch(() => {});
    });
  }

  /** The kubelet removes a pod when its process has ended. */
  private async end(key: string, pod: Pod): Promise<void> {
    const started = this.started.get(key);
    if (started !== undefined && started.process.exitCode === null && started.process.signalCode === null) {
      if (!this.ending.has(key)) started.process.kill('SIGTERM');
      this.ending.add(key);
      return;
    }
    await this.request(pod, '', 'DELETE', { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0 });
  }

  private async environmentOf(pod: Pod, container: Pod): Promise<Record<string, string>> {
    const facts: Record<string, string> = {
      'metadata.namespace': pod.metadata.namespace,
      'metadata.name': pod.metadata.name,
      'metadata.uid': pod.metadata.uid,
      'spec.nodeName': this.nodeName,
    };
    const env: Record<string, string> = {};
    for (const { name, value, valueFrom } of container.env ?? []) {
      const found = value ?? facts[valueFrom?.fieldRef?.fieldPath ?? ''];
      if (found !== undefined) env[name] = found;
    }
    if (env.DISKLIFT_SNAPSHOT_METADATA !== undefined)
      env.DISKLIFT_SNAPSHOT_METADATA = await this.metadataOf(pod, env.DISKLIFT_SNAPSHOT_METADATA);
    if (env.DISKLIFT_MANIFEST_FILE !== undefined) env.DISKLIFT_MANIFEST_FILE = await this.manifestOf(pod);
    return env;
  }

  /** As the kubelet projects a token for another audience than the API server. */
  private async metadataOf(pod: Pod, setting: string): Promise<string> {
    const metadata = JSON.parse(setting);
    const projected = pod.spec.volumes.find((volume: Volume) => volume.projected !== undefined);
    if (metadata.tokenFile === undefined) return setting;
    const [{ serviceAccountToken }] = projected.projected.sources;
    const [container] = pod.spec.containers;
    const { mountPath } = container.volumeMounts.find(({ name }: Volume) => name === projected.name);
    assert.equal(metadata.tokenFile, `${mountPath}/${serviceAccountToken.path}`);
    const file = `${this.api.kubeconfig}-${pod.metadata.uid}.token`;
    const { audience, expirationSeconds } = serviceAccountToken;
    await writeFile(file, await this.tokenOf(pod, { audiences: [audience], expirationSeconds }));
    return JSON.stringify({ ...metadata, tokenFile: file });
  }

  private async tokenOf({ metadata, spec }: Pod, request: object): Promise<string> {
    const place = `/api/v1/namespaces/${metadata.namespace}/serviceaccounts/${spec.serviceAccountName}/token`;
    const { status, body } = await this.api.request(place, { method: 'POST', body: { spec: request } });
    assert.equal(status, 201, JSON.stringify(body));
    return body.status.token;
  }

  private async manifestOf(pod: Pod): Promise<string> {
    const { configMap } = pod.spec.volumes.find((volume: Volume) => volume.configMap !== undefined);
    const { data } = await this.get(`/api/v1/namespaces/${pod.metadata.namespace}/configmaps/${configMap.name}`);
    const file = `${this.api.kubeconfig}-${pod.metadata.uid}.yaml`;
    await writeFile(file, data['vm.yaml']);
    return file;
  }

  /** The worker has the rights of its pod's account, and no more. */
  private async kubeconfigOf(pod: Pod): Promise<string> {
    const token = await this.tokenOf(pod, { expirationSeconds: 3600 });
    const file = `${this.api.kubeconfig}-${pod.metadata.uid}`;
    writeKubeconfig(file, { url: this.api.url, ca: this.api.ca, token });
    return file;
  }

  private async setStatus(pod: Pod, status: object): Promise<void> {
    await this.request(pod, '/status', 'PATCH', { status });
  }

  private async request(pod: Pod, suffix: string, method: 'POST' | 'PATCH' | 'DELETE', body: object): Promise<void> {
    const place = `/api/v1/namespaces/${pod.metadata.namespace}/pods/${pod.metadata.name}${suffix}`;
    const contentType = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const answer = await this.api.request(place, { method, body, contentType });
    assert.ok(answer.status < 300 || answer.status === 404, `${method} ${place}: ${JSON.stringify(answer.body)}`);
  }

  private async get(place: string): Promise<Volume> {
    const { status, body } = await this.api.request(place);
    return status === 200 ? body : undefined;
  }
}

const SELECTED_NODE = 'volume.kubernetes.io/selected-node';

const NONE = { status: 0, body: undefined };

function keyOf({ metadata }: Pod): string {
  return `${metadata.namespace}/${metadata.name}`;
}

function now(): string {
  return new Date().toISOString();
}

function statusOf({ name, image }: Pod, state: object): object {
  return { name, image, imageID: '', ready: 'running' in state, restartCount: 0, state };
}
