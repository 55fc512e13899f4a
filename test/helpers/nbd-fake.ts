/**
 * An NBD server with the replies of a test, also wrong ones that no real server sends. It checks every request
 * strictly.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net, { type Socket } from 'node:net';
import { blockSizeInfo, exportInfo, GREETING, optionReply, u32 } from './nbd-replies.ts';

/** base:allocation's number on this server. */
export const CONTEXT = 77;

export interface NbdRequest {
  type: number;
  cookie: bigint;
  offset: number;
  length: number;
}

export interface NbdFakeOptions {
  sizeBytes: number;
  structured?: boolean;
  /** Whether it reports extents. */
  allocation?: boolean;
  /** Its numbers of metadata contexts; base:allocation alone when left out. */
  contexts?: Readonly<Record<string, number>>;
  /** Whether it supports NBD_OPT_GO; otherwise only NBD_OPT_EXPORT_NAME. */
  knowsGo?: boolean;
  /** Smallest, preferred, largest. */
  blockSizes?: [number, number, number];
  /** The answer to a request; undefined sends none. */
  answer?(request: NbdRequest, socket: Socket): Uint8Array | undefined;
}

export interface NbdFake extends AsyncDisposable {
  socketPath: string;
  exportName: string;
  requests: NbdRequest[];
  /** Violations of the protocol by the client. */
  complaints: string[];
  /** Resolves when the client has closed. */
  left: Promise<void>;
}

const UNSUPPORTED = 0x8000_0001;

const BASE_ALONE: Readonly<Record<string, number>> = { 'base:allocation': CONTEXT };

/** The metadata contexts that a client names: the export, their count, and each with its length. */
function queriesIn(data: Buffer): string[] {
  const names: string[] = [];
  let at = 4 + data.readUInt32BE(0);
  assert.equal(data.toString('utf8', 4, at), 'disk');
  const count = data.readUInt32BE(at);
  at += 4;
  for (let index = 0; index < count; index += 1) {
    const end = at + 4 + data.readUInt32BE(at);
    names.push(data.toString('utf8', at + 4, end));
    at = end;
  }
  assert.equal(at, data.length, 'nothing follows the queries');
  assert.ok(names.includes('base:allocation'));
  return names;
}

async function* exactly(socket: Socket): AsyncGenerator<Buffer, void, number> {
  let held = Buffer.alloc(0);
  let count: number = yield held;
  for await (const bytes of socket) {
    held = Buffer.concat([held, bytes as Buffer]);
    while (held.length >= count) {
      const field = held.subarray(0, count);
      held = held.subarray(count);
      count = yield field;
    }
  }
}

class Session {
  private readonly options: NbdFakeOptions;
  private readonly socket: Socket;
  private readonly fake: NbdFake;
  private readonly bytes: AsyncGenerator<Buffer, void, number>;

  constructor(socket: Socket, options: NbdFakeOptions, fake: NbdFake) {
    this.options = options;
    this.socket = socket;
    this.fake = fake;
    this.bytes = exactly(socket);
  }

  async serve(): Promise<void> {
    await this.bytes.next(0);
    this.socket.write(GREETING);
    assert.equal((await this.read(4)).readUInt32BE(0), 3, 'fixed newstyle without zeroes');
    while (!(await this.takeOption()));
    while (await this.takeRequest());
  }

  private async read(count: number): Promise<Buffer> {
    const next = await this.bytes.next(count);
    assert.ok(next.done !== true, 'closed in the middle');
    return next.value;
  }

  /** @returns whether requests come next */
  private async takeOption(): Promise<boolean> {
    const head = await this.read(16);
    assert.equal(head.toString('latin1', 0, 8), 'IHAVEOPT');
    const [option, length] = [head.readUInt32BE(8), head.readUInt32BE(12)];
    const data = length === 0 ? Buffer.alloc(0) : await this.read(length);
    const { structured = true, allocation = true, knowsGo = true, sizeBytes, blockSizes } = this.options;
    const say = (...reply: Parameters<typeof optionReply>) => this.socket.write(optionReply(...reply));
    if (option === 8) say(8, structured ? 1 : UNSUPPORTED);
    else if (option === 10 && allocation) {
      for (const name of queriesIn(data)) {
        const number = this.options.contexts === undefined ? BASE_ALONE[name] : this.options.contexts[name];
        if (number !== undefined) say(10, 4, Buffer.concat([u32(number), Buffer.from(name)]));
      }
      say(10, 1);
    } else if (option === 10) say(10, 1);
    else if (option === 7 && knowsGo) {
      say(7, 3, exportInfo(sizeBytes));
      if (blockSizes !== undefined) say(7, 3, blockSizeInfo(...blockSizes));
      say(7, 1);
      return true;
    } else if (option === 1) {
      this.socket.write(exportInfo(sizeBytes).subarray(2));
      return true;
    } else say(option, UNSUPPORTED);
    return false;
  }

  private async takeRequest(): Promise<boolean> {
    const head = await this.read(28);
    assert.equal(head.readUInt32BE(0), 0x25609513);
    assert.equal(head.readUInt16BE(4), 0, 'no flags');
    const request = {
      type: head.readUInt16BE(6),
      cookie: head.readBigUInt64BE(8),
      offset: Number(head.readBigUInt64BE(16)),
      length: head.readUInt32BE(24),
    };
    this.fake.requests.push(request);
    if (request.type === 2) return false;
    assert.ok(request.length > 0 && request.offset + request.length <= this.options.sizeBytes, 'on the disk');
    const [smallest, , largest] = this.options.blockSizes ?? [1, 4096, 32 * 1024 * 1024];
    assert.equal(request.offset % smallest, 0);
    assert.equal(request.length % smallest, 0);
    if (request.type === 0) assert.ok(request.length <= largest);
    const answer = this.options.answer?.(request, this.socket);
    if (answer !== undefined) this.socket.write(answer);
    return true;
  }
}

export async function startNbdFake(socketPath: string, options: NbdFakeOptions): Promise<NbdFake> {
  const sockets = new Set<Socket>();
  const left = Promise.withResolvers<void>();
  const fake: NbdFake = {
    socketPath,
    exportName: 'disk',
    requests: [],
    complaints: [],
    left: left.promise,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).once('close', () => left.resolve());
    new Session(socket, options, fake).serve().catch((error: Error) => fake.complaints.push(error.message));
  });
  server.listen(socketPath);
  await once(server, 'listening');
  return fake;
}
