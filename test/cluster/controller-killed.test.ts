/**
 * `disklift controller` as two processes that are killed again and again at random moments, while exports of all kinds
 * run. KILLS and SEED choose how often and when.
 */

// Runs alone: a dozen programs, and random moments that a busy machine would shift.

import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRandom } from '../helpers/seed.ts';
import { type Service, startService } from '../helpers/service.ts';
import { SNAPSHOT_CLASSES } from './node/storage.ts';
import { useFleet } from './use-fleet.ts';

const KILLS = Number(process.env.KILLS ?? 5);
const SEED = Number(process.env.SEED ?? randomInt(2 ** 31));

const MIB = 1024 * 1024;
/** A kill comes at most this long after a process has begun to lead. */
const MAX_LEADING_MS = 5000;
/** A user cancels or deletes an export at most this long after its creation. */
const MAX_PATIENCE_MS = 8000;
const LEAD_LIMIT_MS = 60_000;

interface Ending {
  name: string;
  completionTime: string;
  phase: string | undefined;
}

describe(`disklift controller, killed ${KILLS} times at random moments (SEED=${SEED})`, function () {
  this.timeout(120_000 + KILLS * 30_000);
  const fleet = useFleet();
  const random = createRandom(SEED);
  let areKillsDone = false;
  /** Each outcome that was ever read of an export, by its UID. */
  const endings = new Map<string, Map<string, Ending>>();
  let count = 0;

  const start = (name: string): Promise<Service> =>
    startService({
      args: [
        ...['controller', '--kubeconfig', fleet.account.kubeconfig, '--namespaces', fleet.namespace.name, '--pod-name', name],
        ...['--worker-image', 'registry.example/disklift:test', '--leader-election-namespace', 'default'],
        ...['--lease-duration-seconds', '3', '--listen-host', '127.0.0.1', '--listen-port', '0'],
      ],
      startMessage: 'controller runs',
    });

  const isLeading = async (service: Service) => (await service.metrics()).get('disklift_controller_leader') === 1;

  async function leaderOf(replicas: readonly Service[]): Promise<number> {
    for (const endMs = performance.now() + LEAD_LIMIT_MS; performance.now() < endMs; await sleep(50))
      for (const [index, replica] of replicas.entries()) if (await isLeading(replica)) return index;
    return assert.fail(`nobody leads: ${replicas.map((replica) => replica.output().slice(-2000)).join('\n')}`);
  }

  async function killAgain(replicas: Service[]): Promise<void> {
    for (let kill = 0; kill < KILLS; kill += 1) {
      const leader = await leaderOf(replicas);
      await sleep(random() * MAX_LEADING_MS);
      const choice = random();
      // Mostly the leader; now and then both, or the one that waits.
      const victims = choice < 0.1 ? [0, 1] : [choice < 0.2 ? 1 - leader : leader];
      await Promise.all(victims.map((victim) => replicas[victim]?.stop('SIGKILL')));
      await Promise.all(
        victims.map(async (victim) => {
          replicas[victim] = await start(`replica-${victim}`);
        }),
      );
      if ((kill + 1) % 20 === 0) console.log(`      ${kill + 1} kills, ${count} exports begun`);
    }
  }

  /** Outcomes are final: an export that has ended never gets another one. */
  async function readEndings(): Promise<void> {
    const { body } = await fleet.namespace.request('diskexports');
    for (const { metadata, status } of body.items) {
      if (status?.completionTime === undefined) continue;
      const ofExport = endings.get(metadata.uid) ?? new Map<string, Ending>();
      endings.set(metadata.uid, ofExport);
      const ending = { name: metadata.name, completionTime: status.completionTime, phase: status.phase };
      ofExport.set(JSON.stringify(ending), ending);
    }
  }

  /** The guest writes: each image shows another disk. */
  async function write(disk: string): Promise<void> {
    const file = await open(disk, 'r+');
    await file.write(Buffer.alloc(4096, Math.floor(random() * 256)), 0, 4096, Math.floor(random() * 15) * MIB + 8192);
    await file.close();
  }

  it('ends every export once, with the right outcome, and leaves nothing behind', async () => {
    const { scenes, s3, sink, namespace } = fleet;
    console.log(`      SEED=${SEED} KILLS=${KILLS}`);
    // Only exports that are cancelled or deleted send there.
    s3.quirks.push({ operation: 'UploadPart', does: 'hang' });
    const disks: Record<string, string> = {};
    for (const name of ['free', 'used', 'failing', 'cancelled', 'deleted']) disks[name] = await scenes.claim(name);
    const [free = '', used = ''] = [disks.free, disks.used];
    await scenes.writer('used');
    const given = await scenes.keep(free, 'given');
    await scenes.snapshot('given', 'free');
    const before = await scenes.objects();

    async function succeed(name: string, truth: string, consistency: string | undefined): Promise<void> {
      const status = await scenes.finished(name);
      assert.deepEqual([status.phase, status.consistency], ['Succeeded', consistency], `${name}: ${status.message}`);
      await scenes.assertArrived(name, truth);
    }

    const kinds: Record<string, (name: string) => Promise<void>> = {
      async live(name) {
        await write(free);
        await scenes.export(name, 'free');
        await succeed(name, free, 'Offline');
      },
      async inUse(name) {
        await write(used);
        const truth = await scenes.keep(used, name);
        await scenes.export(name, 'used');
        await scenes.status(name, ({ snapshotTime }) => snapshotTime !== undefined);
        await write(used);
        await succeed(name, truth, 'Crash');
      },
      async volumeSnapshot(name) {
        await scenes.export(name, '', { source: { volumeSnapshot: { name: 'given' } } });
        await succeed(name, given, undefined);
      },
      async failing(name) {
        const snapshot = { mode: 'Always', className: SNAPSHOT_CLASSES.fails, timeoutSeconds: 5 };
        await scenes.export(name, 'failing', { snapshot });
        const { phase, message } = await scenes.finished(name);
        assert.equal(phase, 'Failed', message);
        assert.match(message ?? '', /it was not ready within 5 seconds/);
      },
      async cancelled(name) {
        await scenes.exportToS3(name, 'cancelled', random() < 0.5 ? { snapshot: { mode: 'Always' } } : {});
        await sleep(random() * MAX_PATIENCE_MS);
        await scenes.cancel(name);
        assert.equal((await scenes.finished(name)).phase, 'Cancelled');
      },
      async deleted(name) {
        await scenes.exportToS3(name, 'deleted', random() < 0.5 ? { snapshot: { mode: 'Always' } } : {});
        await sleep(random() * MAX_PATIENCE_MS);
        await namespace.remove(name);
        await scenes.gone(name);
      },
    };

    const again = async (kind: string) => {
      do {
        count += 1;
        await kinds[kind]?.(`${kind.toLowerCase()}-${count}`);
      } while (!areKillsDone);
    };

    const startMs = performance.now();
    const replicas = await Promise.all([start('replica-0'), start('replica-1')]);
    const reading = new AbortController();
    const reader = (async () => {
      for (; !reading.signal.aborted; await sleep(200)) await readEndings();
    })();
    try {
      const killing = killAgain(replicas).finally(() => {
        areKillsDone = true;
      });
      await Promise.all([killing, ...Object.keys(kinds).map(again)]);
      await scenes.assertNothingLeft(before);
    } catch (error) {
      for (const replica of replicas) console.error(replica.output().slice(-4000));
      throw error;
    } finally {
      areKillsDone = true;
      reading.abort();
      await reader;
      await Promise.all(replicas.map((replica) => replica.stop()));
    }
    console.log(`      ${count} exports, ${KILLS} kills, ${Math.round((performance.now() - startMs) / 1000)} s`);
    await readEndings();
    for (const ofExport of endings.values()) assert.equal(ofExport.size, 1, JSON.stringify([...ofExport.values()]));
    assert.deepEqual([s3.store.uploads.size, s3.store.objects.size], [0, 0]);
    const sent = sink.requests.map(({ url }) => url).sort();
    assert.deepEqual(sent, [...new Set(sent)], 'no image is sent twice');
    const created = fleet.requests().ofController.filter(({ verb, status }) => verb === 'create' && status === 201);
    const jobs = created.filter(({ resource, name }) => resource === 'jobs' && !name?.endsWith('-cleanup')).map(({ name }) => name);
    assert.ok(jobs.length > 0);
    assert.deepEqual(jobs.sort(), [...new Set(jobs)].sort(), 'no export gets a second Job');
  });
});
