/** Two hundred DiskExports of one pod, twelve at a time, while its container is killed twice. */

// Runs alone: its node uses namespaces, cgroups and devices of the machine, and has deadlines of its own.
// Shares a process: node

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { chmod, chown } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MIB } from '../../src/common/bytes.ts';
import type { DiskExport } from '../../src/resource/disk-export.ts';
import { CHART } from '../helpers/chart.ts';
import { QEMU_USER } from '../helpers/kubevirt-disk.ts';
import { diskExport } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { requestsIn } from './audit-log.ts';
import { boundClaim } from './node/claims.ts';
import { NODE_ADDRESS } from './node/configs.ts';
import { type ContainerProcess, processOf } from './node/containers.ts';
import { helm, valuesFlags } from './node/helm.ts';
import { createNamespace, type Namespace } from './node/namespace.ts';
import { type HttpReceiver, startHttpReceiver } from './node/receivers.ts';
import type { NodeCluster } from './node-cluster.ts';
import { useNodeCluster } from './use-node-cluster.ts';

const EXPORTS = 200;
const AT_A_TIME = 12;
/** Images that have arrived when the container is killed. */
const KILLED_AT = [40, 120];
const LIMIT_MS = 120_000;

/** Requests of an export at its first attempt; test/cluster/sidecar-many lists them. */
const MAX_REQUESTS_EACH = 11;
/** Requests of a process for lists, watches and its token. */
const MAX_REQUESTS_OF_A_PROCESS = 10;
const MAX_MEMORY_BYTES = 250_000_000;
const MEMORY_SAMPLE_MS = 200;
/** From the start of the container to the first of its predecessor's exports. */
const MAX_TAKEOVER_MS = 5000;

describe('two hundred DiskExports of a pod that is killed twice', function () {
  this.timeout(LIMIT_MS + 120_000);
  let cluster: NodeCluster;
  let namespace: Namespace;
  let receiver: HttpReceiver;
  let disk: string;
  let pod: string;

  before(async function () {
    cluster = await useNodeCluster(this);
    namespace = await createNamespace(cluster);
    receiver = await startHttpReceiver(cluster);
    const volume = path.join(cluster.directory, namespace.name);
    mkdirSync(volume);
    disk = await createDisk(path.join(volume, 'disk.img'), 8 * MIB, [{ offsetBytes: MIB, lengthBytes: 3 * MIB, content: 'random' }]);
    await chown(disk, QEMU_USER, QEMU_USER);
    await chmod(disk, 0o660);
    await namespace.apply(boundClaim({ namespace: namespace.name, name: 'fedora-root', path: volume }));
    const volumes = [{ name: 'fedora', claimName: 'fedora-root' }];
    const flags = valuesFlags(cluster, { volumes, config: { maxConcurrentExports: AT_A_TIME, allowDestination: [NODE_ADDRESS] } });
    await helm(cluster, namespace, 'install', 'nightly', CHART, ...flags, '--wait');
    const selector = ['--selector', 'app.kubernetes.io/name=disklift'];
    pod = await namespace.kubectl('get', 'pods', ...selector, '--output', 'jsonpath={.items[0].metadata.name}');
  });

  after(async () => {
    receiver?.letGo();
    if (namespace === undefined) return;
    await namespace.kubectl('delete', 'deployments', '--all', '--timeout=60s');
    await namespace.kubectl('delete', 'diskexports', '--all', '--timeout=60s');
  });

  /** Names of the exports that have ended; each must have succeeded. */
  async function ended(): Promise<string[]> {
    const { items } = JSON.parse(await namespace.kubectl('get', 'diskexports', '--output', 'json')) as { items: DiskExport[] };
    const finished = items.filter(({ status }) => status?.completionTime !== undefined);
    for (const { status } of finished) assert.equal(status?.phase, 'Succeeded', status?.message);
    return finished.map(({ metadata }) => metadata.name);
  }

  async function until<T>(what: string, value: () => Promise<T | undefined> | T | undefined): Promise<T> {
    for (const endMs = performance.now() + LIMIT_MS; performance.now() < endMs; await delay(100)) {
      const found = await value();
      if (found !== undefined) return found;
    }
    return assert.fail(`${what}: ${await namespace.kubectl('logs', pod, '--tail', '20')}`);
  }

  const bodiesHere = () => receiver.bodies().filter(({ name }) => name.startsWith('many-'));

  const running = () => until('the container runs', () => processOf(cluster, pod, 'disklift'));

  const wholeNames = () => new Set(bodiesHere().flatMap(({ what, name }) => (what === 'whole' ? [name] : [])));

  /** @returns names of the images under way, one in each slot */
  async function holdInFlight({ startMs }: ContainerProcess): Promise<Set<string>> {
    receiver.hold();
    return until('all slots are taken', () => {
      const whole = wholeNames();
      const begun = bodiesHere().filter(({ name, atMs }) => atMs >= startMs && !whole.has(name));
      const held = new Set(begun.map(({ name }) => name));
      return held.size === AT_A_TIME ? held : undefined;
    });
  }

  /** @returns a function that ends the sampling and returns the largest sample */
  function watchMemory(container: ContainerProcess): () => Promise<number> {
    let isOver = false;
    let mostBytes = 0;
    const sampled = (async () => {
      for (; !isOver; await delay(MEMORY_SAMPLE_MS)) mostBytes = Math.max(mostBytes, await container.anonymousBytes());
    })();
    return async () => {
      isOver = true;
      await sampled;
      return mostBytes;
    };
  }

  /** @returns how long the next container took, from its start, to continue an export of the killed container */
  async function killAndMeasure(before: ContainerProcess, inFlight: Set<string>): Promise<number> {
    await before.kill();
    receiver.letGo();
    const after = await until('the container is started again', async () => {
      const next = await processOf(cluster, pod, 'disklift');
      return next !== undefined && next.pid !== before.pid ? next : undefined;
    });
    const first = await until('an export continues', () =>
      bodiesHere().find(({ name, atMs }) => atMs >= after.startMs && inFlight.has(name)),
    );
    return first.atMs - after.startMs;
  }

  it('all arrive, none is sent twice, and memory and the number of requests stay bounded', async () => {
    // Exports of one second queue by name, so those of the container that was killed are the first in the queue.
    const names = Array.from({ length: EXPORTS }, (_, index) => `export-${String(index).padStart(3, '0')}`);
    const source = { persistentVolumeClaim: { claimName: 'fedora-root' } };
    const items = names.map((name) => ({
      ...diskExport(name, { http: { url: `${receiver.url}/many-${name}` } }, { source }),
      metadata: { name },
    }));
    const start = await running();
    await namespace.apply(items);
    const [takeovers, peaks]: [number[], number[]] = [[], []];
    let container = start;
    let memory = watchMemory(container);
    const sentOnce = new Map<string, number>();
    const wholeBodies = (name: string) => bodiesHere().filter((body) => body.what === 'whole' && body.name === `many-${name}`).length;
    for (const count of KILLED_AT) {
      // The receiver's own log, because exports end faster than the API server lists them.
      await until(`${count} images are complete`, () => (wholeNames().size >= count ? true : undefined));
      const inFlight = await holdInFlight(container);
      for (const name of await ended()) sentOnce.set(name, wholeBodies(name));
      peaks.push(await memory());
      takeovers.push(await killAndMeasure(container, inFlight));
      container = await running();
      memory = watchMemory(container);
    }
    await until('all have ended', async () => ((await ended()).length === EXPORTS ? true : undefined));
    peaks.push(await memory());
    for (const [name, count] of sentOnce) assert.equal(wholeBodies(name), count, `${name} had arrived before the container was killed`);
    const extra = names.reduce((sum, name) => sum + wholeBodies(name) - 1, 0);
    assert.ok(extra >= 0 && extra <= KILLED_AT.length * AT_A_TIME, `${extra} images came twice`);
    for (const name of names) await assertImageOf(receiver.fileOf(`many-${name}`), disk);
    const asked = requestsIn(cluster.directory).filter(({ user }) => user === `system:serviceaccount:${namespace.name}:nightly-disklift`);
    const attempts = EXPORTS + KILLED_AT.length * AT_A_TIME;
    const allowed = attempts * MAX_REQUESTS_EACH + (KILLED_AT.length + 1) * MAX_REQUESTS_OF_A_PROCESS;
    console.log(
      `      ${asked.length} requests, ${peaks.map((bytes) => Math.round(bytes / 1e6)).join(', ')} MB, gone on after ${takeovers.join(', ')} ms`,
    );
    assert.ok(asked.length <= allowed, `${asked.length} requests`);
    for (const bytes of peaks) assert.ok(bytes < MAX_MEMORY_BYTES, `${bytes} bytes of memory`);
    for (const takeoverMs of takeovers) assert.ok(takeoverMs < MAX_TAKEOVER_MS, `${takeoverMs} ms until an export went on`);
  });
});
