import assert from 'node:assert/strict';
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { openNames } from '../../helpers/opened-paths.ts';
import { resetSocket } from '../../helpers/reset-socket.ts';

describe('resetSocket', () => {
  /** @returns the error of the peer, if it had one, and the sockets that are left */
  async function reset(before: (socket: Socket) => unknown): Promise<{ code: string | undefined; left: string[] }> {
    const earlier = await openNames('socket:');
    const server = net.createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const socket = net.connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true });
    const [[peer]] = await Promise.all([accepted, once(socket, 'connect')]);
    let code: string | undefined;
    peer.on('error', (error: NodeJS.ErrnoException) => {
      code = error.code;
    });
    peer.resume().once('end', () => peer.end());
    // Not `once`, which takes an error for the end of its wait.
    const closed = Promise.all([socket, peer].map((each) => new Promise((resolve) => each.once('close', resolve))));
    await before(socket);
    resetSocket(socket);
    await closed;
    server.close();
    await once(server, 'close');
    return { code, left: (await openNames('socket:')).filter((each) => !earlier.includes(each)) };
  }

  it('resets a connection', async () => {
    assert.deepEqual(await reset((socket) => void socket.write('bytes')), { code: 'ECONNRESET', left: [] });
  });

  it('leaves no descriptor open where our side is just being ended', async () => {
    assert.deepEqual((await reset((socket) => void socket.end('bytes'))).left, []);
  });

  it('leaves none open either where our side has been ended', async () => {
    const { left } = await reset((socket) => {
      socket.end();
      return once(socket, 'finish');
    });
    assert.deepEqual(left, []);
  });
});
