/**
 * The part of virt-launcher in a backup in pull mode, which needs a node: it connects to the export server by CONNECT,
 * and answers the server's questions (gRPC inside of that connection) from an NBD export of QEMU. It does what
 * pkg/virt-launcher/virtwrap/storage/{backup_tunnel,nbd_client}.go of KubeVirt 1.8.0 do. nbdinfo reads the maps.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import type { Duplex } from 'node:stream';
import { systemClock } from '../../../src/common/clock.ts';
import { openNbdDisk } from '../../../src/sources/nbd/nbd-disk.ts';
import { parseNbdUri } from '../../../src/sources/nbd/nbd-uri.ts';
import { NEVER } from '../image-in-process.ts';
import { runCommand } from '../run-command.ts';
import { type NbdExtent, type NbdQuestion, readQuestion, writeDataChunk, writeMapResponse } from './nbd-messages.ts';

/** As in KubeVirt. */
const READ_CHUNK_BYTES = 256 * 1024;
const MAP_BATCH = 512;

const WORDS = {
  allocation: ['data', 'hole', 'zero', 'hole,zero'],
  changes: ['clean', 'dirty'],
} as const;

export interface LauncherOptions {
  port: number;
  /** PEM. The client's certificate has the name that the server expects of this backup. */
  tls: { ca: string; cert: string; key: string };
  /** The URI of the NBD export of a volume; undefined where the virtual machine has none of that name. */
  exportOf(volume: string): string | undefined;
}

export interface PlayedLauncher extends AsyncDisposable {
  /** Called before each message that is sent; a test breaks the stream by an error. */
  onMessage: ((method: 'Map' | 'Read') => void) | undefined;
  /** Maps of changes as KubeVirt 1.9 sends them: with the zeros that QEMU reports. */
  hasZeros: boolean;
  /** Maps that are changed before they are sent. */
  alterMap: ((extents: NbdExtent[]) => NbdExtent[]) | undefined;
}

export async function startPlayedLauncher({ port, tls, exportOf }: LauncherOptions): Promise<PlayedLauncher> {
  const session = http2.connect(`https://127.0.0.1:${port}`, { ...tls, ALPNProtocols: ['h2'] });
  session.on('error', () => {});
  const closed = once(session, 'close');
  const tunnel = session.request({ ':method': 'CONNECT', ':authority': `127.0.0.1:${port}` }, { endStream: false });
  const [headers] = (await once(tunnel, 'response')) as [http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader];
  assert.equal(headers[':status'], 200);

  const launcher: PlayedLauncher = {
    onMessage: undefined,
    hasZeros: false,
    alterMap: undefined,
    async [Symbol.asyncDispose]() {
      inner.close();
      session.destroy();
      await closed;
    },
  };

  const inner = http2.createServer();
  inner.on('session', (each) => each.on('error', () => {}));
  inner.on('stream', (stream, { ':path': asked }) => {
    stream.on('error', () => {});
    const method = asked === '/kubevirt.nbd.NBD/Map' ? 'Map' : 'Read';
    assert.ok(asked === `/kubevirt.nbd.NBD/${method}`, asked);
    answer(stream, method).catch((error: Error) => {
      if (!stream.destroyed) end(stream, `${error.message}`);
    });
  });
  inner.emit('connection', tunnel as Duplex);

  async function answer(stream: http2.ServerHttp2Stream, method: 'Map' | 'Read'): Promise<void> {
    const question = readQuestion(await readMessage(stream), method);
    const uri = exportOf(question.exportName);
    if (uri === undefined) throw new Error(`no export ${question.exportName}`);
    const messages = method === 'Map' ? mapOf(uri, question) : dataOf(uri, question);
    for await (const message of messages) {
      launcher.onMessage?.(method);
      if (stream.destroyed) return;
      if (!stream.headersSent) respond(stream);
      const head = Buffer.alloc(5);
      head.writeUInt32BE(message.length, 1);
      if (!stream.write(Buffer.concat([head, message]))) await once(stream, 'drain');
    }
    end(stream);
  }

  async function* mapOf(uri: string, { bitmapName, offset, length }: NbdQuestion): AsyncGenerator<Buffer> {
    const asked = await askedExtents(uri, bitmapName);
    const extents = bitmapName !== '' && launcher.hasZeros ? merged(asked, await askedExtents(uri, '')) : asked;
    const sizeBytes = extents.reduce((end, extent) => Math.max(end, extent.offset + extent.length), 0);
    const end = clampedEnd(offset, length, sizeBytes);
    const within = extents
      .map((extent) => {
        const start = Math.max(extent.offset, offset);
        return { ...extent, offset: start, length: Math.min(extent.offset + extent.length, end) - start };
      })
      .filter((extent) => extent.length > 0);
    const sent = launcher.alterMap?.(within) ?? within;
    for (let at = 0; at < sent.length; at += MAP_BATCH) yield writeMapResponse(sent.slice(at, at + MAP_BATCH));
  }

  return launcher;
}

/** As clampLength: a range behind the end is an error, and 0 means "to the end". */
function clampedEnd(offset: number, length: number, sizeBytes: number): number {
  if (offset >= sizeBytes) throw new Error(`offset ${offset} is beyond export size ${sizeBytes}`);
  return length === 0 || offset + length > sizeBytes ? sizeBytes : offset + length;
}

async function askedExtents(uri: string, bitmapName: string): Promise<NbdExtent[]> {
  const [context, words] =
    bitmapName === '' ? (['base:allocation', WORDS.allocation] as const) : ([`qemu:dirty-bitmap:${bitmapName}`, WORDS.changes] as const);
  const { code, stdout, stderr } = await runCommand('nbdinfo', ['--json', `--map=${context}`, uri]);
  if (code !== 0) throw new Error(`server does not support requested context: ${context}: ${stderr}`);
  const list = JSON.parse(stdout.toString()) as { offset: number; length: number; type: number }[];
  const joined: NbdExtent[] = [];
  for (const { offset, length, type } of list) {
    const last = joined.at(-1);
    if (last !== undefined && last.flags === type && last.offset + last.length === offset) last.length += length;
    else joined.push({ offset, length, flags: type, description: words[type] ?? 'unknown' });
  }
  return joined;
}

/** Changes of one list and zeros of the other, as in pkg/storage/nbdclient of KubeVirt 1.9. */
function merged(changes: readonly NbdExtent[], allocation: readonly NbdExtent[]): NbdExtent[] {
  const words = ['clean', 'dirty', 'zero', 'dirty,zero'];
  return changes.flatMap((change) =>
    allocation.flatMap((each) => {
      const offset = Math.max(change.offset, each.offset);
      const length = Math.min(change.offset + change.length, each.offset + each.length) - offset;
      const flags = change.flags | (each.flags & 2);
      return length > 0 ? [{ offset, length, flags, description: words[flags] ?? 'unknown' }] : [];
    }),
  );
}

async function* dataOf(uri: string, { offset, length }: NbdQuestion): AsyncGenerator<Buffer> {
  const disk = await openNbdDisk(parseNbdUri(uri), { clock: systemClock, signal: NEVER });
  try {
    const end = clampedEnd(offset, length, disk.sizeBytes);
    for (let at = offset; at < end; at += READ_CHUNK_BYTES) {
      const data = Buffer.alloc(Math.min(READ_CHUNK_BYTES, end - at));
      await disk.read(data, at, NEVER);
      yield writeDataChunk(at, data);
    }
  } finally {
    await disk.dispose();
  }
}

async function readMessage(stream: http2.ServerHttp2Stream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  const all = Buffer.concat(chunks);
  assert.equal(all.readUInt32BE(1), all.length - 5);
  return all.subarray(5);
}

const HEAD = { ':status': 200, 'content-type': 'application/grpc+proto' };

function respond(stream: http2.ServerHttp2Stream): void {
  stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.respond(HEAD, { waitForTrailers: true });
}

/** @param failure ends the call with the status Unknown */
function end(stream: http2.ServerHttp2Stream, failure?: string): void {
  if (failure === undefined) {
    if (!stream.headersSent) respond(stream);
    stream.end();
    return;
  }
  const trailers = { 'grpc-status': '2', 'grpc-message': encodeURIComponent(failure) };
  if (!stream.headersSent) {
    stream.respond({ ...HEAD, ...trailers }, { endStream: true });
    return;
  }
  stream.removeAllListeners('wantTrailers');
  stream.once('wantTrailers', () => stream.sendTrailers(trailers));
  stream.end();
}
