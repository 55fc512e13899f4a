/**
 * A SnapshotMetadata service that plays the streams of a test, for faults that no real service has on demand. It
 * refuses a call that the protocol does not allow.
 */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { loadPackageDefinition, Server, ServerCredentials, type ServerWritableStream, type ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { MetadataService } from '../../src/sources/changed/snapshot-metadata/contract.ts';
import { createTestAuthority } from './test-authority.ts';

export interface PlayedMessage {
  style?: 'FIXED_LENGTH' | 'VARIABLE_LENGTH' | 'UNKNOWN';
  capacityBytes?: number;
  ranges: readonly (readonly [offset: number, length: number])[];
}

export interface PlayedStream {
  messages?: readonly PlayedMessage[];
  /** How the stream ends after its messages; it ends in order when left out. */
  end?: { code: number; details: string } | 'hangs' | 'endless';
}

interface PlayedRequest {
  method: 'Allocated' | 'Delta';
  security_token: string;
  namespace: string;
  base_snapshot_id?: string;
  target_snapshot_name?: string;
  snapshot_name?: string;
  starting_offset: number;
  max_results: number;
}

export interface PlayedService extends AsyncDisposable {
  service: MetadataService;
  requests: PlayedRequest[];
  /** Streams that are open at the server. */
  openCount(): number;
}

export const CAPACITY_BYTES = 1024 * 1024;
export const NAMESPACE = 'vms';

const SCHEMA = fileURLToPath(new URL('../../src/sources/changed/snapshot-metadata/schema.proto', import.meta.url));

type Call = ServerWritableStream<Omit<PlayedRequest, 'method'>, object>;

/** @param play gives the stream of each call, in order */
export async function playMetadataService(
  directory: (name: string) => string,
  play: (request: PlayedRequest, index: number) => PlayedStream,
): Promise<PlayedService> {
  const requests: PlayedRequest[] = [];
  let open = 0;
  const handle = (method: PlayedRequest['method']) => (call: Call) => {
    const request = { ...call.request, method };
    requests.push(request);
    const name = method === 'Delta' ? request.target_snapshot_name : request.snapshot_name;
    if (
      name === '' ||
      request.security_token === '' ||
      request.namespace !== NAMESPACE ||
      (method === 'Delta' && !request.base_snapshot_id)
    )
      return call.emit('error', { code: 3, details: 'a field is missing' });
    open += 1;
    call.on('close', () => (open -= 1)).on('cancelled', () => call.end());
    void send(call, play(request, requests.length - 1));
  };
  const server = new Server();
  const definition = loadPackageDefinition(loadSync(SCHEMA, { keepCase: true, longs: Number, enums: String, defaults: true }));
  const { SnapshotMetadata } = definition.snapshotmetadata as unknown as { SnapshotMetadata: ServiceClientConstructor };
  server.addService(SnapshotMetadata.service, { GetMetadataAllocated: handle('Allocated'), GetMetadataDelta: handle('Delta') });
  const authority = await createTestAuthority(directory('.'));
  const { key, certificate } = await authority.issue('service', 'DNS:snapshot-metadata.storage');
  const credentials = ServerCredentials.createSsl(null, [{ private_key: Buffer.from(key), cert_chain: Buffer.from(certificate) }]);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) => (error === null ? resolve(bound) : reject(error)));
  });
  const tokenFile = directory('token');
  writeFileSync(tokenFile, 'first-token\n');
  return {
    requests,
    openCount: () => open,
    service: {
      address: `snapshot-metadata.storage:${port}`,
      caCert: authority.ca,
      tokenFile,
      async locate(host) {
        assert.equal(host, 'snapshot-metadata.storage');
        return '127.0.0.1';
      },
    },
    async [Symbol.asyncDispose]() {
      server.forceShutdown();
    },
  };
}

async function send(call: Call, { messages = [], end }: PlayedStream): Promise<void> {
  for (const message of messages) call.write(onWire(message));
  if (end === 'hangs') return;
  while (end === 'endless' && !call.cancelled) {
    call.write(onWire({ ranges: [] }));
    await new Promise((resolve) => setImmediate(resolve));
  }
  if (end === undefined || typeof end === 'string') call.end();
  else call.emit('error', end);
}

function onWire({ style = 'VARIABLE_LENGTH', capacityBytes = CAPACITY_BYTES, ranges }: PlayedMessage): object {
  return {
    block_metadata_type: style,
    volume_capacity_bytes: capacityBytes,
    block_metadata: ranges.map(([byte_offset, size_bytes]) => ({ byte_offset, size_bytes })),
  };
}
