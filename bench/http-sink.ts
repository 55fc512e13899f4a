/**
 * `node bench/http-sink.ts` receives uploads as fast as one processor can and stores nothing, so that a bench measures
 * the sender alone. It reads into one reused buffer, which node:http cannot. It takes one request per connection, and
 * prints its port.
 */

import net, { type AddressInfo, type Socket } from 'node:net';

const BUFFER_BYTES = 1024 * 1024;
const HEAD_END = '\r\n\r\n';
const LAST_CHUNK = '0\r\n\r\n';

/** @returns a function that takes bytes, and returns true when the request is complete */
function createRequest(answer: (text: string) => void): (bytes: Buffer) => boolean {
  let head = '';
  let leftBytes: number | undefined;
  let tail = '';

  function begin(): Buffer | undefined {
    const end = head.indexOf(HEAD_END);
    if (end < 0) return undefined;
    const length = /content-length: (\d+)/i.exec(head)?.[1];
    // Without a length the body comes in chunks, and ends with an empty one.
    leftBytes = length === undefined ? Number.POSITIVE_INFINITY : Number(length);
    if (/expect: 100-continue/i.test(head)) answer('HTTP/1.1 100 Continue\r\n\r\n');
    return Buffer.from(head.slice(end + HEAD_END.length), 'latin1');
  }

  return (bytes) => {
    let body: Buffer | undefined = bytes;
    if (leftBytes === undefined) {
      head += bytes.toString('latin1');
      body = begin();
    }
    if (body === undefined || leftBytes === undefined) return false;
    leftBytes -= body.length;
    tail = (tail + body.subarray(-LAST_CHUNK.length).toString('latin1')).slice(-LAST_CHUNK.length);
    return leftBytes <= 0 || (leftBytes === Number.POSITIVE_INFINITY && tail === LAST_CHUNK);
  };
}

const buffer = Buffer.alloc(BUFFER_BYTES);
const requests = new WeakMap<Socket, (bytes: Buffer) => boolean>();

function onConnection(socket: Socket): void {
  requests.set(
    socket,
    createRequest((text) => socket.write(text)),
  );
  socket.on('error', () => socket.destroy());
}

/** net.Server has no option for one buffer. The connection's handle gets it here, as with `onread` of net.connect. */
const server = net.createServer({ pauseOnConnect: true }, (paused) => {
  const { _handle: handle } = paused as Socket & { _handle: unknown };
  const socket = new net.Socket({
    handle,
    onread: {
      buffer,
      callback(length: number) {
        if (requests.get(socket)?.(buffer.subarray(0, length)) === true)
          socket.end('HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
        return true;
      },
    },
  } as net.SocketConstructorOpts);
  onConnection(socket);
  socket.resume();
});
server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port));
