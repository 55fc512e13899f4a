/**
 * A TCP proxy between a target and its real server, with faults that a test sets. It does not interpret the bytes that
 * it passes on, so TLS passes as well.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { ProxiedConnection } from './proxied-connection.ts';
import { resetSocket } from './reset-socket.ts';

export type Direction = 'toServer' | 'toClient';

/**
 * 'end': an orderly end (FIN) to both, and later bytes are dropped; 'reset': an RST to both; 'stall': the proxy reads
 * nothing more in both directions; 'slow': in both directions; 'corrupt': the byte at `atByte` has one bit flipped;
 * 'tell': no harm, calls `act`.
 */
type Harm =
  | { kind: 'end' | 'reset' | 'corrupt' }
  | { kind: 'stall'; forMs?: number }
  | { kind: 'slow'; bytesPerSecond: number }
  | { kind: 'tell'; act(): void };

export type Fault = Harm & {
  direction: Direction;
  /**
   * Happens after that many bytes in `direction`, of all connections together. If more have passed already, it happens
   * at the next byte or the end.
   */
  atByte: number;
  /** Counts the bytes of this connection only: 0 is the first. */
  connection?: number;
  /** The network is gone: it happens to all connections, later ones too, until `heal()`. Not for 'corrupt'. */
  everywhere?: boolean;
  /** Whether the test also passes if the fault does not happen. */
  mayNotHappen?: boolean;
};

export interface FaultProxy extends AsyncDisposable {
  /** On 127.0.0.1. */
  readonly port: number;
  /** Bytes that were passed on, all connections together. */
  readonly passed: Readonly<Record<Direction, number>>;
  /** Connections that the target has not closed yet. */
  readonly openConnections: number;
  /** Adds a fault; its `atByte` counts from the start of the proxy as well. */
  expect(fault: Fault): void;
  /** Ends the faults with `everywhere`, for new connections. */
  heal(): void;
  /** @throws AssertionError when an expected fault did not happen */
  assertAllHappened(): void;
}

/** @param serverPort of the real server, on 127.0.0.1 */
export async function startFaultProxy(serverPort: number, ...faults: Fault[]): Promise<FaultProxy> {
  const pending = new Set(faults);
  const passed = { toServer: 0, toClient: 0 };
  const connections: ProxiedConnection[] = [];
  let outage: Fault | undefined;

  function strike(fault: Fault, connection: ProxiedConnection): void {
    if (fault.everywhere === true) outage = fault;
    for (const each of fault.everywhere === true ? connections : [connection]) each.suffer(fault);
  }

  /** The next fault of a connection, and the number of bytes that may pass before it. */
  function nextFault(connection: ProxiedConnection, direction: Direction): { fault: Fault; inBytes: number } | undefined {
    const own = [...pending].filter(
      (fault) => fault.direction === direction && (fault.connection === undefined || connections[fault.connection] === connection),
    );
    const distances = own.map((fault) => {
      const done = fault.connection === undefined ? passed[direction] : connection.passed[direction];
      return { fault, inBytes: Math.max(0, fault.atByte - done) };
    });
    return distances.sort((a, b) => a.inBytes - b.inBytes)[0];
  }

  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    if (outage?.kind === 'end' || outage?.kind === 'reset') return void resetSocket(client.on('error', () => {}));
    const upstream = net.connect({ port: serverPort, host: '127.0.0.1', allowHalfOpen: true });
    const connection: ProxiedConnection = new ProxiedConnection(client, upstream, {
      nextFault: (direction) => nextFault(connection, direction),
      claim: (fault) => void pending.delete(fault),
      strike: (fault) => strike(fault, connection),
      count: (direction, bytes) => {
        passed[direction] += bytes;
      },
    });
    connections.push(connection);
    if (outage !== undefined) connection.suffer(outage);
    connection.start();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    port: (server.address() as AddressInfo).port,
    passed,
    get openConnections() {
      return connections.filter(({ isOpen }) => isOpen).length;
    },
    expect: (fault) => void pending.add(fault),
    heal() {
      outage = undefined;
    },
    assertAllHappened() {
      const missing = [...pending].filter((fault) => fault.mayNotHappen !== true);
      assert.deepEqual(missing, [], `did not happen; ${JSON.stringify(passed)} were passed on`);
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close');
      server.close();
      for (const connection of connections) connection.destroy();
      await closed;
    },
  };
}
