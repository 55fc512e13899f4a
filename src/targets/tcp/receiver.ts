/**
 * The receiving end of a TCP target. Takes one image at a time from any sender, and resumes after a connection was cut.
 */

import type net from 'node:net';
import type { AddressInfo } from 'node:net';
import { abortable, throwIfAborted } from '../../common/abortable.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { ImageOutput } from './image-output.ts';
import { type Confirmation, confirmationLine, type Hello, isDiscard, offsetLine, parseHello, rereadAllowanceMs } from './messages.ts';
import { type ListenAddress, listen, type ServerTls, Session } from './session.ts';

type Received = Required<Confirmation>;

interface ReceiverLimits {
  /** Limit until a sender has sent its first line. */
  helloMs: number;
  /** Limit of silence. The kernel, or a second connection of the same sender, shows a dead sender earlier. */
  idleMs: number;
  /** Wait for a sender whose connection broke at the end: it may not have received the confirmation. */
  returnMs: number;
}

export interface ReceiverOptions {
  address: ListenAddress;
  tls?: ServerTls | undefined;
  protocol: 'Raw' | 'Acknowledged';
  output: ImageOutput;
  /** Take one image after the other instead of one. */
  keep: boolean;
  clock: Clock;
  signal: AbortSignal;
  limits?: Partial<ReceiverLimits> | undefined;
  onListening(address: AddressInfo): void;
  /** Called when the image is in its place and the sender did not object. */
  onReceived(received: Received): void;
  /** Receives one line about a connection that failed. */
  warn(message: string): void;
}

const LIMITS: ReceiverLimits = { helloMs: 10_000, idleMs: 600_000, returnMs: 120_000 };

/** Time to save a running transfer when the receiver is stopped. */
const STOP_MS = 700;

const RAW_PATIENCE_MS = 2000;

/**
 * Resolves when an image was received; never with `keep`.
 * @throws DiskliftError `Cancelled`, `InvalidRequest` when it cannot listen, and, unless `keep`, what makes the output
 * unusable
 */
export function runReceiver(options: ReceiverOptions): Promise<void> {
  return new Receiver(options).run();
}

interface Writer {
  /** Undefined for the Raw protocol, which has no first line. */
  hello: Hello | undefined;
  session: Session;
  gone: Promise<void>;
}

interface Done {
  hello: Hello | undefined;
  received: Received;
  isReported: boolean;
}

class Receiver {
  private readonly options: ReceiverOptions;
  private readonly limits: ReceiverLimits;
  private readonly sessions = new Set<Session>();
  private readonly finished = Promise.withResolvers<void>();
  private readonly stopped = new AbortController();
  private writer: Writer | undefined;
  /**
   * The writer's session once all bytes of its image have arrived: the confirmation and the sender's verdict remain.
   */
  private concluding: Session | undefined;
  /** The image that was received last. */
  private done: Done | undefined;
  /** The failure that makes the output unusable. */
  private unusable: DiskliftError | undefined;

  constructor(options: ReceiverOptions) {
    this.options = options;
    this.limits = { ...LIMITS, ...options.limits };
  }

  async run(): Promise<void> {
    const { address, tls, signal, clock, onListening } = this.options;
    const onConnection = (socket: net.Socket, raw: net.Socket) => void this.serve(new Session({ socket, raw, clock }));
    const server = await listen({ address, tls, onConnection });
    try {
      onListening(server.address() as AddressInfo);
      await abortable(this.finished.promise, signal);
    } finally {
      server.close();
      await this.stop();
    }
  }

  /** Reports an image that was confirmed, even when the sender's verdict has not arrived: the image is in its place. */
  private async stop(): Promise<void> {
    const stop = new DiskliftError('Cancelled', 'the receiver was stopped');
    for (const session of this.sessions) if (session !== this.concluding) session.break(stop);
    await Promise.race([this.writer?.gone, this.options.clock.delay(STOP_MS, this.stopped.signal)]);
    this.concluding?.break(stop);
    if (this.done !== undefined) this.report(this.done);
    this.stopped.abort(stop);
  }

  private async serve(session: Session): Promise<void> {
    const { protocol, keep, signal, warn } = this.options;
    this.sessions.add(session);
    try {
      await (protocol === 'Raw' ? this.takeRaw(session) : this.takeAcknowledged(session));
      session.close();
      this.sessions.delete(session);
      this.finishWhenReported();
    } catch (error) {
      if (!(error instanceof DiskliftError)) {
        session.break(new DiskliftError('DestinationUnreachable', 'the receiver has failed', error));
        return this.finished.reject(error);
      }
      if (!signal.aborted) warn(`${session.where}: ${error.message}`);
      await (protocol === 'Raw' ? session.break(error) : session.refuse(error));
      if (this.unusable !== undefined && !keep) this.finished.reject(this.unusable);
      this.unusable = undefined;
    } finally {
      this.sessions.delete(session);
    }
  }

  private async takeRaw(session: Session): Promise<void> {
    const first = await session.chunk(this.limits.idleMs);
    // A probe of the port, without an image.
    if (first === undefined) return;
    const { clock } = this.options;
    // A Raw sender cannot be asked to retry, and it may follow a connection that is just being closed.
    if (this.writer !== undefined) await Promise.race([this.writer.gone, clock.delay(RAW_PATIENCE_MS, this.stopped.signal)]);
    await this.asWriter(session, undefined, async () => {
      this.done = { hello: undefined, received: await this.receive(session, undefined, first), isReported: false };
      this.report(this.done);
    });
  }

  private async takeAcknowledged(session: Session): Promise<void> {
    const line = await session.line(this.limits.helloMs);
    if (line === undefined) return;
    const hello = parseHello(line);
    await this.asWriter(session, hello, async () => {
      // The image is here, but its sender did not receive the confirmation.
      if (isSameImage(hello, this.done?.hello)) {
        this.concluding = session;
        session.say(offsetLine(hello.sizeBytes));
      } else this.done = { hello, received: await this.receive(session, hello), isReported: false };
      const done = this.done as Done;
      session.say(confirmationLine(done.received));
      await this.hearVerdict(session, done);
    });
  }

  /**
   * Runs `task` while no other transfer runs.
   * @throws DiskliftError `DestinationRejected` when a transfer of another disk runs
   */
  private async asWriter(session: Session, hello: Hello | undefined, task: () => Promise<void>): Promise<void> {
    for (let { writer } = this; writer !== undefined; { writer } = this) {
      if (!isSameDisk(hello, writer.hello)) throw busy('another image is being received');
      // A sender that connects again has lost its first connection, even if this end has not noticed.
      writer.session.break(new DiskliftError('DestinationUnreachable', 'the sender has come again by another connection'));
      await writer.gone;
    }
    throwIfAborted(this.options.signal);
    const { done } = this;
    if (done !== undefined && !isSameDisk(hello, done.hello)) {
      if (!this.options.keep) throw busy('an image was received already');
      this.report(done);
    }
    const { promise: gone, resolve } = Promise.withResolvers<void>();
    this.writer = { hello, session, gone };
    try {
      await task();
    } finally {
      this.writer = undefined;
      this.concluding = undefined;
      resolve();
    }
  }

  /** @param first bytes that were read already */
  private async receive(session: Session, hello: Hello | undefined, first?: Buffer): Promise<Received> {
    const { output } = this.options;
    this.done = undefined;
    let at = await this.ofOutput(output.begin(hello));
    try {
      if (hello !== undefined) session.say(offsetLine(at));
      const end = hello?.sizeBytes ?? Number.POSITIVE_INFINITY;
      let limitMs = this.limits.idleMs + rereadAllowanceMs(at);
      for (let chunk = first; at < end; chunk = undefined) {
        chunk ??= await session.chunk(limitMs);
        if (chunk === undefined && hello === undefined) break;
        if (chunk === undefined) throw new DiskliftError('DestinationUnreachable', `closed the connection after ${at} of ${end} bytes`);
        if (at + chunk.length > end) throw new DiskliftError('DestinationRejected', 'more bytes came than were announced');
        await this.ofOutput(output.write(chunk));
        at += chunk.length;
        limitMs = this.limits.idleMs;
      }
      this.concluding = session;
      return await this.ofOutput(output.finish());
    } catch (error) {
      await this.ofOutput(output.suspend());
      throw error;
    }
  }

  /**
   * Waits for the sender's verdict. An orderly end means success. After a lost connection the sender may connect again.
   */
  private async hearVerdict(session: Session, done: Done): Promise<void> {
    const { output, clock, warn } = this.options;
    let line: string | undefined;
    try {
      line = await session.line(this.limits.helloMs);
    } catch {
      clock.delay(this.limits.returnMs, this.stopped.signal).then(
        () => {
          if (this.writer === undefined) this.report(done);
          this.finishWhenReported();
        },
        () => {},
      );
      return;
    }
    if (line === undefined || !isDiscard(line)) return this.report(done);
    this.done = undefined;
    await this.ofOutput(output.discard());
    warn(`${session.where}: sent other bytes than have arrived; they were removed`);
  }

  private report(done: Done): void {
    if (this.done !== done || done.isReported) return;
    done.isReported = true;
    this.options.onReceived(done.received);
  }

  private finishWhenReported(): void {
    if (this.done?.isReported === true && !this.options.keep) this.finished.resolve();
  }

  private async ofOutput<T>(operation: Promise<T>): Promise<T> {
    try {
      return await operation;
    } catch (error) {
      if (error instanceof DiskliftError) this.unusable = error;
      throw error;
    }
  }
}

function isSameDisk(a: Hello | undefined, b: Hello | undefined): boolean {
  return a !== undefined && b !== undefined && a.exportUid === b.exportUid && a.disk === b.disk;
}

function isSameImage(a: Hello, b: Hello | undefined): boolean {
  return isSameDisk(a, b) && a.fingerprint !== undefined && a.fingerprint === b?.fingerprint && a.sizeBytes === b.sizeBytes;
}

function busy(message: string): DiskliftError {
  return new DiskliftError('DestinationRejected', `busy: ${message}`, undefined, { retryable: true });
}
