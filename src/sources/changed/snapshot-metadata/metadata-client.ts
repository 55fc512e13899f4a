/** One call of the service over gRPC. The only home of @grpc/grpc-js, which is loaded for the first call. */

import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { Client, ClientReadableStream, ServiceError } from '@grpc/grpc-js';
import { abortable, cancelledError } from '../../../common/abortable.ts';
import { nodeTls } from '../../../common/builtin.ts';
import { DiskliftError } from '../../../common/errors.ts';
import { withinLimit } from '../../../common/time-limit.ts';
import type { RangesMessage, RangesQuestion } from './contract.ts';
import { refusedList, serviceError } from './service-errors.ts';

export interface StreamQuestion extends RangesQuestion {
  /** The snapshot in messages. */
  name: string;
  token: string;
  startingOffset: number;
}

/** Time to connect, TLS included. */
const CONNECT_MS = 20_000;

/** The driver may have to compare much before it sends the first message. */
const SILENCE_MS = 300_000;

/** A message of 1024 ranges has about 20 KiB. */
const MAX_RESULTS = 1024;
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

const SCHEMA = fileURLToPath(new URL('schema.proto', import.meta.url));

/**
 * @returns the messages of one stream. It ends when the service ended the stream in order
 * @throws DiskliftError `ChangesRefused`, or the codes of the table; `SourceReadError` after a wait that is too long;
 * `Cancelled` at once
 */
export async function* streamMessages(question: StreamQuestion): AsyncGenerator<RangesMessage> {
  const { signal, service, name } = question;
  const client = await openClient(question);
  try {
    await connected(client, question);
    const stream = await startCall(client, question);
    try {
      yield* messagesOf(stream, question);
    } finally {
      stream.cancel();
    }
  } catch (error) {
    if (signal.aborted) throw cancelledError(signal);
    throw isServiceError(error) ? serviceError(name, service.address, error) : error;
  } finally {
    client.close();
  }
}

/** The policy judges the address, and the connection goes to that address and to no other. */
async function openClient({ service, name, signal, clock }: StreamQuestion): Promise<Client> {
  const { Client, credentials } = await import('@grpc/grpc-js');
  const { hostname, port } = hostAndPort(name, service.address);
  const late = () => new DiskliftError('SourceReadError', `${name}: ${service.address}: its name was not resolved in time`);
  const address = await withinLimit(service.locate(hostname, signal), { clock, signal, limitMs: CONNECT_MS, late });
  const context = secureContext(name, service);
  const target = isIP(address) === 6 ? `ipv6:[${address}]:${port}` : `ipv4:${address}:${port}`;
  return new Client(target, credentials.createFromSecureContext(context, { rejectUnauthorized: true }), {
    'grpc.ssl_target_name_override': hostname,
    'grpc.default_authority': service.address,
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    // A proxy of the environment is for destinations; this service is in the cluster.
    'grpc.enable_http_proxy': 0,
    'grpc.enable_retries': 0,
    'grpc.use_local_subchannel_pool': 1,
    // The service's DNS may not choose how its clients behave.
    'grpc.service_config_disable_resolution': 1,
  });
}

/** @throws DiskliftError `ChangesRefused` for a text without a certificate */
function secureContext(name: string, { caCert, address }: RangesQuestion['service']) {
  try {
    // Node takes a text without a certificate for no authority at all.
    new X509Certificate(caCert);
    // As in Go, an authority may be the certificate of the server itself.
    return nodeTls().createSecureContext({ ca: caCert, minVersion: 'TLSv1.2', allowPartialTrustChain: true });
  } catch (error) {
    throw refusedList(name, `the caCert of ${address} is no certificate`, error);
  }
}

function hostAndPort(name: string, address: string): { hostname: string; port: string } {
  const url = URL.canParse(`https://${address}`) ? new URL(`https://${address}`) : undefined;
  const isPlain = url !== undefined && url.pathname === '/' && `${url.search}${url.hash}${url.username}${url.password}` === '';
  if (!isPlain || !/:\d+$/.test(address)) throw refusedList(name, `its address ${JSON.stringify(address)} is not HOST:PORT`);
  return { hostname: url.hostname.replace(/^\[|\]$/g, ''), port: url.port || '443' };
}

/** Waits for a connection. The call itself reports why no connection came about. */
async function connected(client: Client, { clock, signal, name, service }: StreamQuestion): Promise<void> {
  const { connectivityState } = await import('@grpc/grpc-js');
  const channel = client.getChannel();
  const wait = (state: number) =>
    new Promise<void>((resolve, reject) => {
      const deadline = Date.now() + CONNECT_MS;
      channel.watchConnectivityState(state, deadline, (error) => (error === undefined ? resolve() : reject(error)));
    });
  const late = () => new DiskliftError('SourceReadError', `${name}: the SnapshotMetadata service ${service.address} does not answer`);
  const untilConnected = async () => {
    for (;;) {
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY || state === connectivityState.TRANSIENT_FAILURE) return;
      await wait(state).catch(() => {
        throw late();
      });
    }
  };
  await withinLimit(untilConnected(), { clock, signal, limitMs: CONNECT_MS, late });
}

interface WireMessage {
  block_metadata_type: string;
  volume_capacity_bytes: number;
  block_metadata: { byte_offset: number; size_bytes: number }[];
}

async function startCall(client: Client, question: StreamQuestion): Promise<ClientReadableStream<WireMessage>> {
  const { load } = await import('@grpc/proto-loader');
  const { snapshot, baseHandle, token, startingOffset, signal } = question;
  // Numbers of 2^53 and more lose digits, and are refused as no offsets of a disk.
  const definitions = await abortable(load(SCHEMA, { keepCase: true, longs: Number, enums: String, defaults: true }), signal);
  const service = definitions['snapshotmetadata.SnapshotMetadata'] as Readonly<Record<string, Method>>;
  const method = service[baseHandle === undefined ? 'GetMetadataAllocated' : 'GetMetadataDelta'] as Method;
  const names =
    baseHandle === undefined ? { snapshot_name: snapshot.name } : { base_snapshot_id: baseHandle, target_snapshot_name: snapshot.name };
  return client.makeServerStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, {
    security_token: token,
    namespace: snapshot.namespace,
    ...names,
    starting_offset: startingOffset,
    max_results: MAX_RESULTS,
  });
}

interface Method {
  path: string;
  requestSerialize(value: object): Buffer;
  responseDeserialize(bytes: Buffer): WireMessage;
}

async function* messagesOf(
  stream: ClientReadableStream<WireMessage>,
  { clock, signal, name, service }: StreamQuestion,
): AsyncGenerator<RangesMessage> {
  const late = () =>
    new DiskliftError(
      'SourceReadError',
      `${name}: the SnapshotMetadata service ${service.address} sent nothing for ${SILENCE_MS / 1000} seconds`,
    );
  const iterator = stream[Symbol.asyncIterator]() as AsyncIterator<WireMessage>;
  for (;;) {
    const next = await withinLimit(iterator.next(), { clock, signal, limitMs: SILENCE_MS, late });
    if (next.done) return;
    const { block_metadata_type: style, volume_capacity_bytes: capacityBytes, block_metadata: ranges } = next.value;
    yield { style, capacityBytes, ranges: ranges.map(({ byte_offset: offset, size_bytes: length }) => ({ offset, length })) };
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && typeof (error as Partial<ServiceError>).code === 'number' && 'details' in error;
}
