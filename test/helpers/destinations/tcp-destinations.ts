/**
 * `disklift receive`, plain and over TLS, as Acknowledged. Raw has a test of its own: a peer that ends in order is believed, so the
 * suite's faults, which end connections in order at any byte, would be successes.
 */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { systemClock } from '../../../src/common/clock.ts';
import { DiskliftError } from '../../../src/common/errors.ts';
import { createNetworkAccess } from '../../../src/targets/policy/network-access.ts';
import { createFileOutput } from '../../../src/targets/tcp/file-output.ts';
import type { ImageOutput } from '../../../src/targets/tcp/image-output.ts';
import { type ReceiverOptions, runReceiver } from '../../../src/targets/tcp/receiver.ts';
import { createTcpTarget } from '../../../src/targets/tcp/tcp-target.ts';
import { createTestAuthority } from '../test-authority.ts';
import type { Destination, Peer } from './destination.ts';

/** Tells what a hello has announced, and turns it away when it is told to. */
function watchOutput(output: ImageOutput): ImageOutput & { announcedBytes: number | undefined; refuses: boolean } {
  return {
    announcedBytes: undefined,
    refuses: false,
    async begin(hello) {
      this.announcedBytes = hello?.sizeBytes;
      if (this.refuses) throw new DiskliftError('DestinationRejected', 'refused');
      return output.begin(hello);
    },
    write: (bytes) => output.write(bytes),
    suspend: () => output.suspend(),
    finish: () => output.finish(),
    discard: () => output.discard(),
  };
}

async function startPeer(directory: string, tls: boolean): Promise<Peer> {
  const file = path.join(directory, 'received.qcow2');
  const output = watchOutput(await createFileOutput({ path: file, force: true }));
  const authority = tls ? await createTestAuthority(directory) : undefined;
  const stop = new AbortController();
  const { promise: listening, resolve } = Promise.withResolvers<number>();
  const options: ReceiverOptions = {
    address: { host: '127.0.0.1', port: 0 },
    tls: await authority?.issue('receiver', 'IP:127.0.0.1'),
    protocol: 'Acknowledged',
    output,
    keep: true,
    clock: systemClock,
    signal: stop.signal,
    onListening: ({ port }) => resolve(port),
    onReceived: () => {},
    warn: () => {},
  };
  const ended = assert.rejects(runReceiver(options), { code: 'Cancelled' });
  return {
    port: await listening,
    image: () => readFile(file).catch(() => undefined),
    openUploads: async () => 0,
    announcedBytes: () => output.announcedBytes,
    refuse() {
      output.refuses = true;
    },
    createTarget: (port, limits) =>
      createTcpTarget({
        host: '127.0.0.1',
        port,
        protocol: 'Acknowledged',
        tls: authority === undefined ? undefined : { ca: authority.ca },
        access: createNetworkAccess(),
        clock: systemClock,
        exportUid: 'uid-1',
        disk: 'a.img',
        limits,
      }),
    async [Symbol.asyncDispose]() {
      stop.abort(new DiskliftError('Cancelled', 'the test is over'));
      await ended;
    },
  };
}

const ACKNOWLEDGED = {
  proof: 'digest',
  refusal: { code: 'DestinationRejected', retryable: false, mostBytes: 4096 },
  announcesSize: true,
  findsCorruption: true,
  resendsBytes: 4 * 1024 * 1024,
} as const;

export const TCP_DESTINATIONS: readonly Destination[] = [
  { ...ACKNOWLEDGED, name: 'TCP, acknowledged', start: (directory) => startPeer(directory, false) },
  {
    ...ACKNOWLEDGED,
    name: 'TCP, acknowledged, over TLS',
    start: (directory) => startPeer(directory, true),
  },
];
