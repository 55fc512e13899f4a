/** The connection that carries the body of one request: how much it has taken, and when the server is the one that is waited for. */

import type http from 'node:http';
import type { Socket } from 'node:net';
import type { PaceWatch } from '../pace-watch.ts';
import { takenBytes } from '../pace-watch.ts';

/** More than the head of a request takes. */
const MAX_HEAD_BYTES = 4096;

/** More than TLS adds to a byte. */
const TLS_SHARE = 1 / 512;

export class BodyConnection {
  private readonly pace: PaceWatch;
  private socket: Socket | undefined;
  /** Of the connection, when the request got it. */
  private baseBytes = 0;
  private movedBytes = 0;
  private isReading = false;
  private hasEnded = false;
  private closeWait: (() => void) | undefined;

  constructor(pace: PaceWatch) {
    this.pace = pace;
  }

  attach(request: http.ClientRequest): void {
    const onSocket = (socket: Socket) => {
      this.socket = socket;
      this.baseBytes = takenBytes(socket);
      this.update();
    };
    if (request.socket !== null) onSocket(request.socket);
    else request.once('socket', onSocket);
    // The kernel has the whole body: the server is waited for under the limit of its answer.
    request.once('finish', () => this.end());
    request.once('close', () => this.end());
  }

  /** Body bytes that the kernel has taken; a little fewer, so that neither the request's head nor TLS is counted. */
  takenBytes(): number {
    const { socket } = this;
    if (socket !== undefined) this.movedBytes = Math.max(this.movedBytes, takenBytes(socket) - this.baseBytes);
    const bodyBytes = this.movedBytes - MAX_HEAD_BYTES;
    const share = socket !== undefined && 'encrypted' in socket ? 1 - TLS_SHARE : 1;
    return Math.max(0, Math.floor(bodyBytes * share));
  }

  /** The source is being read, so that the server waits. */
  beginReading(): void {
    this.isReading = true;
    this.update();
  }

  endReading(): void {
    this.isReading = false;
    this.update();
  }

  end(): void {
    this.hasEnded = true;
    this.update();
  }

  private update(): void {
    const { socket } = this;
    if (socket !== undefined && !this.isReading && !this.hasEnded) {
      this.closeWait ??= this.pace.open(() => takenBytes(socket));
      return;
    }
    this.closeWait?.();
    this.closeWait = undefined;
  }
}
