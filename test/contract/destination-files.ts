/** The contract of every DestinationFiles. Each destination calls this with a real server. */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { DiskliftError } from '../../src/common/errors.ts';
import { createNetworkAccess, type NetworkAccess } from '../../src/network/destination-policy.ts';
import type { DestinationFiles } from '../../src/targets/contract.ts';
import { startFaultProxy } from '../helpers/fault-proxy.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

/** A server with files in it. */
export interface FilesPeer extends AsyncDisposable {
  readonly port: number;
  /** @param port of the server, or of a proxy in front of it */
  createFiles(port: number, options?: { access?: NetworkAccess; limitMs?: number }): DestinationFiles;
}

export interface FilesCase {
  /** @returns undefined where the server is not installed */
  start(directory: string): Promise<FilesPeer | undefined>;
  /** Places in two folders. */
  places: readonly [string, string];
  /** A place that must be refused before anything is sent. */
  illegal: string;
}

const NEVER = new AbortController().signal;
const PROMPT_MS = 1000;

export function itKeepsFiles({ start, places: [place, other], illegal }: FilesCase): void {
  const temp = useTempDir();
  let peer: FilesPeer;
  let files: DestinationFiles;
  beforeEach(async function () {
    const started = await start(temp('server'));
    if (started === undefined) return this.skip();
    peer = started;
    files = peer.createFiles(peer.port);
  });
  afterEach(() => peer?.[Symbol.asyncDispose]());

  it('has nothing where no file is', async () => {
    assert.equal(await files.read(place, 100, NEVER), undefined);
    assert.equal(await files.look(place, NEVER), undefined);
    await assert.rejects(files.readRange(place, { start: 0, end: 1 }, NEVER), { code: 'DestinationRejected' });
  });

  it('reads what it wrote, whole and by ranges, and sees its size', async () => {
    const bytes = randomBytes(300_000);
    await files.write(place, bytes, NEVER);
    const read = await files.read(place, bytes.length, NEVER);
    assert.ok(bytes.equals(read?.bytes ?? Buffer.alloc(0)));
    const seen = await files.look(place, NEVER);
    assert.equal(seen?.sizeBytes, bytes.length);
    assert.equal(seen?.etag, read?.etag, 'both requests give the same tag');
    for (const [from, to] of [
      [0, 1],
      [0, bytes.length],
      [99_999, 200_001],
      [bytes.length - 32, bytes.length],
    ] as const)
      assert.ok(bytes.subarray(from, to).equals(await files.readRange(place, { start: from, end: to }, NEVER)), `${from}`);
    assert.equal(await files.look(other, NEVER), undefined);
  });

  it('replaces a file, whose tag then is another one', async () => {
    await files.write(place, Buffer.from('first'), NEVER);
    const before = await files.look(place, NEVER);
    await files.write(place, Buffer.from('second one'), NEVER);
    await files.write(other, Buffer.from('other'), NEVER);
    const read = await files.read(place, 100, NEVER);
    assert.equal(Buffer.from(read?.bytes ?? []).toString(), 'second one');
    assert.ok(before?.etag !== undefined && before.etag !== read?.etag, `${before?.etag}`);
  });

  it('refuses a file above the limit, and a range behind the end', async () => {
    await files.write(place, randomBytes(2000), NEVER);
    await assert.rejects(files.read(place, 1999, NEVER), { code: 'DestinationRejected' });
    const isBeyond = (error: DiskliftError) => ['DestinationRejected', 'DestinationUnreachable'].includes(error.code);
    await assert.rejects(files.readRange(place, { start: 1990, end: 2010 }, NEVER), isBeyond);
    await assert.rejects(files.readRange(place, { start: 3000, end: 3010 }, NEVER), isBeyond);
  });

  it('names the place without a secret', () => {
    assert.match(files.location(place), /^(s3|https?):\/\/[^?@]*$/);
    assert.ok(files.location(place).endsWith(place));
  });

  it('refuses a place that would lead elsewhere', async () => {
    for (const call of [
      () => files.read(illegal, 10, NEVER),
      () => files.look(illegal, NEVER),
      () => files.write(illegal, Buffer.from('x'), NEVER),
    ])
      await assert.rejects(async () => call(), { code: 'InvalidRequest' });
  });

  it('connects only where the policy allows it', async () => {
    const access = { ...createNetworkAccess(), checkHost: () => deny(), checkAddress: () => deny() } as unknown as NetworkAccess;
    const denied = peer.createFiles(peer.port, { access });
    await assert.rejects(denied.read(place, 10, NEVER), { code: 'DestinationNotAllowed' });
    await assert.rejects(denied.write(place, Buffer.from('x'), NEVER), { code: 'DestinationNotAllowed' });
  });

  describe('with a server that fails', () => {
    const calls = {
      read: (at: DestinationFiles, signal: AbortSignal) => at.read(place, 10_000_000, signal),
      look: (at: DestinationFiles, signal: AbortSignal) => at.look(place, signal),
      readRange: (at: DestinationFiles, signal: AbortSignal) => at.readRange(place, { start: 0, end: 100 }, signal),
      write: (at: DestinationFiles, signal: AbortSignal) => at.write(place, Buffer.from('x'), signal),
    };

    for (const [name, call] of Object.entries(calls)) {
      it(`ends ${name} in time when the server hangs, as a failure that may pass`, async () => {
        await files.write(place, randomBytes(1000), NEVER);
        await using proxy = await startFaultProxy(peer.port, { kind: 'stall', direction: 'toServer', atByte: 0, everywhere: true });
        const at = peer.createFiles(proxy.port, { limitMs: 400 });
        const startMs = performance.now();
        await assert.rejects(call(at, NEVER), (error: DiskliftError) => error.code === 'DestinationUnreachable' && error.retryable);
        assert.ok(performance.now() - startMs < 15_000);
      });

      it(`ends ${name} at once when its signal is aborted`, async () => {
        await using proxy = await startFaultProxy(peer.port, { kind: 'stall', direction: 'toServer', atByte: 0, everywhere: true });
        const at = peer.createFiles(proxy.port, { limitMs: 20_000 });
        const stop = new AbortController();
        const pending = call(at, stop.signal);
        pending.catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, 200));
        const startMs = performance.now();
        stop.abort(new DiskliftError('Cancelled', 'enough'));
        await assert.rejects(pending, { code: 'Cancelled' });
        assert.ok(performance.now() - startMs < PROMPT_MS);
      });

      it(`reports a connection that is refused, for ${name}`, async () => {
        await using proxy = await startFaultProxy(peer.port, { kind: 'reset', direction: 'toServer', atByte: 0, everywhere: true });
        const at = peer.createFiles(proxy.port, { limitMs: 1000 });
        await assert.rejects(call(at, NEVER), (error: DiskliftError) => error.code === 'DestinationUnreachable' && error.retryable);
      });
    }

    it('ends a read in time when the server stops in the middle', async () => {
      const bytes = randomBytes(4_000_000);
      await files.write(place, bytes, NEVER);
      await using proxy = await startFaultProxy(peer.port, { kind: 'stall', direction: 'toClient', atByte: 1_000_000, everywhere: true });
      const at = peer.createFiles(proxy.port, { limitMs: 400 });
      await assert.rejects(at.read(place, bytes.length, NEVER), { code: 'DestinationUnreachable' });
    });

    it('gives no bytes of an answer that is cut', async () => {
      const bytes = randomBytes(4_000_000);
      await files.write(place, bytes, NEVER);
      await using proxy = await startFaultProxy(peer.port, { kind: 'end', direction: 'toClient', atByte: 1_000_000, everywhere: true });
      const at = peer.createFiles(proxy.port, { limitMs: 1000 });
      await assert.rejects(at.read(place, bytes.length, NEVER), (error: DiskliftError) => error.retryable);
    });
  });
}

function deny(): never {
  throw new DiskliftError('DestinationNotAllowed', 'not there');
}
