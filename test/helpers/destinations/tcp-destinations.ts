/** TCP: the receiver that `disklift receive` runs, for both protocols, and with TLS. */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { systemClock } from '../../../src/common/clock.ts';
import { DiskliftError } from '../../../src/common/errors.ts';
import { createNetworkAccess } from '../../../src/network/destination-policy.ts';
import { createFileOutput } from '../../../src/targets/tcp/file-output.ts';
import type { ImageOutput } from '../../../src/targets/tcp/image-output.ts';
import { runReceiver } from '../../../src/targets/tcp/receiver.ts';
import { createTcpTarget } from '../../../src/targets/tcp/tcp-target.ts';
import type { Destination, Peer } from './destination.ts';
import { peerCertificate } from './peer-certificate.ts';

const MIB = 1024 * 1024;

interface Variant {
  protocol: 'Raw' | 'Acknowledged';
  tls?: boolean;
}

/** Records the size that a hello announces, and refuses it when `refuses` is set. */
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

async function startPeer(directory: string, { protocol, tls = false }: Variant): Promise<Peer> {
  const file = path.join(directory, 'received.qcow2');
  const output = watchOutput(await createFileOutput({ path: file, force: true }));
  const identity = tls ? await peerCertificate() : undefined;
  const stop = new AbortController();
  const { promise: listening, resolve } = Promise.withResolvers<number>();
  const running = runReceiver({
    address: { host: '127.0.0.1', port: 0 },
    tls: identity,
    protocol,
    output,
    keep: true,
    clock: systemClock,
    signal: stop.signal,
    onListening: ({ port }) => resolve(port),
    onReceived: () => {},
    warn: () => {},
  });
  const ended = assert.rejects(running, { code: 'Cancelled' });
  return {
    port: await listening,
    image: () => readFile(file).catch(() => undefined),
    openUploads: async () => [],
    announcedBytes: () => output.announcedBytes,
    async refuse() {
      output.refuses = true;
    },
    createTarget: (port, limits, access = createNetworkAccess()) =>
      createTcpTarget({
        host: '127.0.0.1',
        port,
        protocol,
        tls: identity === undefined ? undefined : { ca: identity.ca },
        access,
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

const RAW = {
  check: { connects: false, findsRefusal: false },
  proof: 'close',
  announcesSize: false,
  // Bytes that the receiver had not read when it closed the connection were in the buffers of both kernels.
  refusal: { code: 'DestinationUnreachable', retryable: true, mostBytes: 10 * MIB },
  // Raw takes every orderly end of a connection as the end of the image.
  knowsLength: false,
} as const;

const ACKNOWLEDGED = {
  check: { connects: false, findsRefusal: false },
  proof: 'digest',
  refusal: { code: 'DestinationRejected', retryable: false, mostBytes: 4096 },
  announcesSize: true,
  findsCorruption: true,
  knowsLength: true,
  // Bytes that the receiver had not read when the sender reconnected.
  resendsBytes: 4 * MIB,
} as const;

export const TCP_DESTINATIONS: readonly Destination[] = [
  // The protocol gives the receiver no way to detect a flipped bit.
  { ...RAW, name: 'TCP Raw', findsCorruption: false, start: (directory) => startPeer(directory, { protocol: 'Raw' }) },
  { ...ACKNOWLEDGED, name: 'TCP Acknowledged', start: (directory) => startPeer(directory, { protocol: 'Acknowledged' }) },
  {
    ...ACKNOWLEDGED,
    name: 'TCP Acknowledged over TLS',
    start: (directory) => startPeer(directory, { protocol: 'Acknowledged', tls: true }),
  },
];
