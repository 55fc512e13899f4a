/** One transfer of the contract suite: a disk, its image, a peer, and the fault proxy in front of the peer. */

import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/common/clock.ts';
import { DiskliftError } from '../../src/common/errors.ts';
import { type DigestedImage, digestImage } from '../../src/image/digest.ts';
import { type PreparedImage, prepareImage } from '../../src/image/prepare-image.ts';
import type { NetworkAccess } from '../../src/network/destination-policy.ts';
import type { ExportTarget, Receipt, ResumeState, Seal, TransferContext } from '../../src/targets/contract.ts';
import { type Destination, type Peer, SHORT_LIMITS, type TargetLimits } from '../helpers/destinations/destination.ts';
import { type FaultProxy, startFaultProxy } from '../helpers/fault-proxy.ts';
import { DEFAULT_OPTIONS, NEVER, openSource } from '../helpers/image-in-process.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';

export interface Outcome {
  receipt?: Receipt;
  failure?: DiskliftError;
  tookMs: number;
}

export interface Scene extends AsyncDisposable {
  readonly destination: Destination;
  readonly diskPath: string;
  readonly peer: Peer;
  readonly proxy: FaultProxy;
  readonly sizeBytes: number;
  /** The image that the peer must have after a successful transfer, of the disk as it was when the scene was set. */
  expected(): Promise<Buffer>;
  sha256(): Promise<string>;
  /** A target that sends through the proxy. */
  createTarget(limits?: Partial<TargetLimits>, access?: NetworkAccess): ExportTarget;
  /** The resume state that the last transfer saved. */
  readonly saved: ResumeState | undefined;
  /** The progress that the last transfer reported, in order. */
  readonly progress: readonly number[];
  /** As the engine seals the image that is being sent. */
  seal(): Promise<Seal>;
  /** Resolves when no more bytes go to the peer. */
  quiet(): Promise<void>;
  /** Sends as the engine does. */
  send(changes?: Partial<TransferContext>, limits?: Partial<TargetLimits>): Promise<Outcome>;
  /** Asserts that the peer has the image of the disk's current content. */
  assertArrived(): Promise<void>;
  /** Asserts that all connections are closed soon. */
  assertDisconnected(): Promise<void>;
}

export interface ContractCase {
  destination: Destination;
  /** Sets a scene with the disk of the suite. */
  set(): Promise<Scene>;
}

/** The time within which a transfer must end after its signal is aborted. */
export const PROMPT_MS = 1000;

/** Starts a peer of the destination with a proxy in front of it. */
export async function setScene(destination: Destination, diskPath: string): Promise<Scene> {
  const directory = await mkdtemp(path.join(path.dirname(diskPath), 'peer-'));
  const peer = await destination.start(directory);
  const proxy = await startFaultProxy(peer.port);
  const prepared = await prepareImage({
    openSource: () => openSource(diskPath),
    qcow2: DEFAULT_OPTIONS,
    zeroDetection: 'content',
    signal: NEVER,
    clock: systemClock,
    warn: assert.fail,
  });
  return new TransferScene({ destination, diskPath, peer, proxy, prepared });
}

type Parts = Pick<Scene, 'destination' | 'diskPath' | 'peer' | 'proxy'> & { prepared: PreparedImage };

/** Time without a byte after which the transfer counts as quiet. */
const QUIET_MS = 80;

class TransferScene implements Scene {
  readonly destination: Destination;
  readonly diskPath: string;
  readonly peer: Peer;
  readonly proxy: FaultProxy;
  saved: ResumeState | undefined;
  progress: number[] = [];
  private readonly prepared: PreparedImage;
  private digested: DigestedImage;

  constructor({ destination, diskPath, peer, proxy, prepared }: Parts) {
    this.destination = destination;
    this.diskPath = diskPath;
    this.peer = peer;
    this.proxy = proxy;
    this.prepared = prepared;
    this.digested = digestImage(prepared.image);
  }

  get sizeBytes(): number {
    return this.prepared.image.sizeBytes;
  }

  async expected(): Promise<Buffer> {
    const bytes = Buffer.alloc(this.sizeBytes);
    await this.prepared.image.read(bytes, 0, NEVER);
    return bytes;
  }

  sha256(): Promise<string> {
    return digestImage(this.prepared.image).sha256(NEVER);
  }

  createTarget(limits: Partial<TargetLimits> = {}, access?: NetworkAccess): ExportTarget {
    return this.peer.createTarget(this.proxy.port, { ...SHORT_LIMITS, ...limits }, access);
  }

  async seal(): Promise<Seal> {
    const sha256 = await this.digested.sha256(NEVER);
    await this.prepared.seal();
    return { sha256 };
  }

  async quiet(): Promise<void> {
    for (let before = -1; before !== this.proxy.passed.toServer; ) {
      before = this.proxy.passed.toServer;
      await sleep(QUIET_MS);
    }
  }

  async send(changes: Partial<TransferContext> = {}, limits: Partial<TargetLimits> = {}): Promise<Outcome> {
    this.progress = [];
    let hasEnded = false;
    const context: TransferContext = {
      signal: NEVER,
      resume: this.saved,
      saveResume: async (state) => {
        assert.ok(!hasEnded, 'something is kept after the end');
        this.saved = state;
      },
      seal: () => this.seal(),
      ...changes,
      progress: (sentBytes) => {
        assert.ok(!hasEnded, 'progress is told after the end');
        this.progress.push(sentBytes);
        changes.progress?.(sentBytes);
      },
    };
    const startMs = performance.now();
    const tookMs = () => performance.now() - startMs;
    try {
      const receipt = await this.createTarget(limits).send(this.digested.image, context);
      return { receipt, tookMs: tookMs() };
    } catch (failure) {
      assert.ok(failure instanceof DiskliftError, `not a DiskliftError: ${failure instanceof Error ? failure.stack : failure}`);
      assert.match(failure.message, /^[^\n]+$/, 'a failure is told in one line');
      return { failure, tookMs: tookMs() };
    } finally {
      hasEnded = true;
    }
  }

  async assertArrived(): Promise<void> {
    const image = (await this.peer.image()) ?? assert.fail('nothing arrived');
    const imagePath = `${this.diskPath}.arrived.qcow2`;
    await writeFile(imagePath, image);
    await assertImageOf(imagePath, this.diskPath);
  }

  async assertDisconnected(): Promise<void> {
    const deadlineMs = performance.now() + PROMPT_MS;
    while (this.proxy.openConnections > 0 && performance.now() < deadlineMs) await sleep(10);
    assert.equal(this.proxy.openConnections, 0, 'connections are left open');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy[Symbol.asyncDispose]();
    await this.peer[Symbol.asyncDispose]();
    await this.prepared[Symbol.asyncDispose]();
  }
}

/**
 * Asserts after a failed transfer that the peer has no complete image. If the peer cannot distinguish a cut from an
 * end, its image is too short.
 */
export async function assertNothingComplete(scene: Scene): Promise<void> {
  await scene.quiet();
  const image = await scene.peer.image();
  const isCut = !scene.destination.knowsLength && image !== undefined && image.length < scene.sizeBytes;
  // Not assert.equal: it would spell out the image.
  assert.ok(image === undefined || isCut, 'the peer has something complete');
}

/** Abandons the upload, as the engine does when nothing will resume it, and asserts that nothing is left. */
export async function assertNothingLeft(scene: Scene): Promise<void> {
  if (scene.saved !== undefined) await scene.createTarget().abandon(scene.saved, AbortSignal.timeout(5000));
  assert.deepEqual(await scene.peer.openUploads(), [], 'the peer holds an upload open');
  await assertNothingComplete(scene);
}
