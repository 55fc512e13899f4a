/** Strict fakes of all calls that the engine awaits. A test can make each call hang or fail by its name and number. */

import assert from 'node:assert/strict';
import { type Clock, systemClock } from '../../src/common/clock.ts';
import { DiskliftError } from '../../src/common/errors.ts';
import type { ExportPlan } from '../../src/engine/contract.ts';
import type { DiskState, ExportEnd, ExportWatcher } from '../../src/engine/observer.ts';
import { serveRequests } from '../../src/engine/serve-requests.ts';
import type { DiskExport, DiskExportStatus } from '../../src/resource/disk-export.ts';
import { validateDiskExport, validateStatus } from '../../src/resource/validate.ts';
import type { DiskSource } from '../../src/sources/contract.ts';
import type { Claim, RequestStore } from '../../src/stores/contract.ts';
import type { ExportTarget } from '../../src/targets/contract.ts';
import { DEFAULT_OPTIONS } from './image-in-process.ts';
import { diskExport } from './manifest.ts';
import { until } from './until.ts';

const SIZE_BYTES = 4 * 65_536;
const S3 = { s3: { bucket: 'bucket', key: '{name}' } };

/** `name number`: `identity 2` is the second call of that name. */
type Call = string;

export interface Faults {
  hangsAt?: Call | undefined;
  /** Each of these calls fails with the given error. */
  fails?: Record<Call, Error>;
  /** Every call of these names fails. */
  failsAlways?: Record<string, Error>;
  /** The store refuses such a status for good, as an API server does whose schema or policy does not accept it. */
  refusesStatus?: (status: DiskExportStatus) => boolean;
}

interface Stored {
  request: DiskExport;
  isTerminating: boolean;
  isGuarded: boolean;
  isClaimed: boolean;
  loss?: AbortController;
}

export interface EnginePorts {
  readonly store: RequestStore;
  /** Plans the one disk of each export. */
  plan(): Promise<ExportPlan>;
  /** Names of calls in order. */
  readonly calls: readonly Call[];
  readonly warnings: string[];
  /** Arguments that the watchers of each export received at the end of each run. */
  readonly ends: { key: string; phase: ExportEnd; failure: DiskliftError | undefined }[];
  readonly disks: Map<string, DiskState>;
  /** Resolves when the call that hangs has been made. */
  readonly hangs: Promise<void>;
  add(name: string, spec?: Record<string, unknown>, status?: DiskExportStatus): string;
  cancel(key: string): void;
  /** Another process takes the claim. */
  lose(key: string): void;
  /** As `kubectl delete` does for an object with a finalizer. */
  delete(key: string): void;
  get(key: string): Stored | undefined;
  statusOf(key: string): DiskExportStatus;
  /** Serves requests; `stop` is SIGTERM. */
  serve(options?: { maxConcurrentExports?: number; clock?: Clock }): { ended: Promise<void>; stop(): void };
}

export function createEnginePorts({ hangsAt, fails = {}, failsAlways = {}, refusesStatus = () => false }: Faults = {}): EnginePorts {
  const counts = new Map<string, number>();
  const calls: Call[] = [];
  const reached = Promise.withResolvers<void>();
  const requests = new Map<string, Stored>();
  const warnings: string[] = [];
  const ends: EnginePorts['ends'] = [];
  const disks = new Map<string, DiskState>();
  const changed: string[] = [];

  /** A call of the engine to the outside. Ignores every signal, as a system call does that hangs in the kernel. */
  async function at(name: string): Promise<void> {
    const number = (counts.get(name) ?? 0) + 1;
    counts.set(name, number);
    const call = `${name} ${number}`;
    calls.push(call);
    if (call === hangsAt) {
      reached.resolve();
      await new Promise(() => {});
    }
    const failure = fails[call] ?? failsAlways[name];
    if (failure !== undefined) throw failure;
  }

  function stored(key: string): Stored {
    return requests.get(key) ?? assert.fail(`there is no ${key}`);
  }

  const source = (): DiskSource => {
    let isOpen = true;
    return {
      name: 'a.img',
      sizeBytes: SIZE_BYTES,
      async *extents() {
        await at('extents');
        yield { offset: 0, length: SIZE_BYTES, kind: 'data' };
      },
      async read(buffer, offset) {
        assert.ok(isOpen && offset + buffer.length <= SIZE_BYTES);
        await at('read');
        buffer.fill(7);
      },
      async identity() {
        assert.ok(isOpen);
        await at('identity');
        return { mtime: '1' };
      },
      async dispose() {
        assert.ok(isOpen, 'a disk is closed once');
        isOpen = false;
        await at('dispose');
      },
    };
  };

  const target: ExportTarget = {
    check: () => at('check'),
    async send(image, { signal, resume, saveResume, progress, seal }) {
      await at('send');
      await saveResume(resume ?? { id: 'upload', partSizeBytes: SIZE_BYTES, fingerprint: image.fingerprint });
      let sentBytes = 0;
      for await (const chunk of image.stream({ signal })) {
        sentBytes += chunk.length;
        progress(sentBytes);
      }
      const { sha256 } = await seal();
      await at('commit');
      await saveResume(undefined);
      return { location: 'memory', sizeBytes: sentBytes, proof: 'digest', ...(sha256 === undefined ? {} : { sha256 }) };
    },
    async abandon() {
      await at('abandon');
    },
  };

  const plan = async (): Promise<ExportPlan> => {
    await at('plan');
    const disk = { path: 'a.img', qcow2: DEFAULT_OPTIONS, zeroDetection: 'content' } as const;
    const openSource = async () => {
      await at('open');
      return source();
    };
    const createTarget = async () => {
      await at('createTarget');
      return target;
    };
    return { checksum: 'SHA256', backoffLimit: 1, disks: [{ ...disk, openSource, createTarget }] };
  };

  const store: RequestStore = {
    showsUnclaimed: true,
    async *watch(signal) {
      for (const key of requests.keys()) yield key;
      for (;;) {
        await at('watch');
        while (changed.length === 0 && !signal.aborted) await new Promise((resolve) => setTimeout(resolve, 5));
        if (signal.aborted) return;
        yield changed.shift() as string;
      }
    },
    async get(key) {
      await at('get');
      const found = requests.get(key);
      return found === undefined
        ? undefined
        : { kind: 'request', request: structuredClone(found.request), isTerminating: found.isTerminating };
    },
    async claim(key) {
      await at('claim');
      const found = stored(key);
      assert.ok(!found.isClaimed, 'one run at a time');
      found.isClaimed = true;
      found.loss = new AbortController();
      const claim: Claim = {
        lost: found.loss.signal,
        assertHeld: () => at('assertHeld'),
        async release() {
          try {
            await at('release');
          } finally {
            // A claim that cannot be released expires.
            found.isClaimed = false;
            if (requests.has(key)) changed.push(key);
          }
        },
      };
      return claim;
    },
    async writeStatus(key, status) {
      await at('writeStatus');
      if (refusesStatus(status)) throw new DiskliftError('StoreRefused', 'is invalid: too long', undefined, { retryable: false });
      stored(key).request.status = validateStatus(JSON.parse(JSON.stringify(status)));
    },
    async setCleanupPending(key, isPending) {
      await at(isPending ? 'guard' : 'unguard');
      const found = requests.get(key);
      if (found !== undefined) found.isGuarded = isPending;
      // The API server removes an object that is being deleted with its last finalizer.
      if (found?.isTerminating && !isPending) requests.delete(key);
    },
    async remove(key) {
      await at('remove');
      requests.delete(key);
      changed.push(key);
    },
    resolve: () => assert.fail('nothing is referred to'),
    recordEvent: () => at('recordEvent'),
  };

  const watcher = (key: string): ExportWatcher => ({
    observer: { onChange: (disk) => void disks.set(key, disk) },
    end: (phase, failure) => void ends.push({ key, phase, failure }),
  });

  return {
    store,
    plan,
    calls,
    warnings,
    ends,
    disks,
    hangs: reached.promise,
    add(name, spec = {}, status) {
      const request = validateDiskExport(diskExport(name, S3, spec));
      const key = `${request.metadata.namespace}/${name}`;
      const isGuarded = false;
      requests.set(key, {
        request: status === undefined ? request : { ...request, status },
        isTerminating: false,
        isGuarded,
        isClaimed: false,
      });
      changed.push(key);
      return key;
    },
    cancel(key) {
      stored(key).request.spec.cancel = true;
      changed.push(key);
    },
    lose: (key) => stored(key).loss?.abort(new DiskliftError('ExecutorLost', 'another process has taken the claim')),
    delete(key) {
      stored(key).isTerminating = true;
      changed.push(key);
    },
    get: (key) => requests.get(key),
    statusOf: (key) => stored(key).request.status ?? {},
    serve({ maxConcurrentExports = 1, clock = systemClock } = {}) {
      const stop = new AbortController();
      const ended = serveRequests({
        store,
        signal: stop.signal,
        clock,
        random: () => 0.1,
        hostOf: () => 'host',
        maxConcurrentExports,
        refusal: () => undefined,
        plan,
        planLeftovers: plan,
        observers: [{ onBegin: (key) => watcher(key) }],
        warn: (message) => void warnings.push(message),
      });
      return { ended, stop: () => stop.abort(new DiskliftError('Cancelled', 'cancelled by SIGTERM')) };
    },
  };
}

/** Waits until an export has its final status. */
export async function untilFinished(ports: EnginePorts, key: string): Promise<DiskExportStatus> {
  await until(`the end of ${key}`, () => ports.statusOf(key).completionTime !== undefined);
  return ports.statusOf(key);
}
