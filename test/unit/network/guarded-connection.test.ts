/** Connections replace defaults of the platform that are below the promises of an export. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net, { type LookupFunction } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createNetworkAccess } from '../../../src/network/destination-policy.ts';
import { connectGuarded } from '../../../src/network/guarded-connection.ts';
import { startHttpSink } from '../../helpers/http-sink.ts';
import { stopProcess } from '../../helpers/stop-process.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { createTestAuthority } from '../../helpers/test-authority.ts';

const NEVER = new AbortController().signal;

/**
 * A server in its own process. While it is stopped it accepts nothing, and the kernel drops a SYN when the queue is
 * full.
 */
const SERVER = `
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', 0)); s.listen(0); print(s.getsockname()[1], flush=True)
held = []
while True: held.append(s.accept())
`;

describe('a connection to a destination', function () {
  this.timeout(20_000);
  const temp = useTempDir();

  it('waits for an address that answers after a second, although the name has another one', async () => {
    const server = spawn('python3', ['-c', SERVER], { stdio: ['ignore', 'pipe', 'inherit'] });
    const queued: net.Socket[] = [];
    try {
      const [line] = await once(server.stdout, 'data');
      const port = Number(String(line));
      await stopProcess(server.pid ?? assert.fail());
      // These connections fill the accept queue.
      for (let count = 0; count < 2; count += 1) queued.push(net.connect(port, '127.0.0.1').on('error', () => {}));
      await sleep(100);
      // No server listens at the second address.
      const found = [
        { address: '127.0.0.1', family: 4 },
        { address: '127.0.0.9', family: 4 },
      ];
      const lookup: LookupFunction = (_host, _options, callback) => callback(null, found);
      setTimeout(() => server.kill('SIGCONT'), 500);
      const startMs = performance.now();
      const socket = await connectGuarded({ host: 'name.example', port, access: createNetworkAccess(undefined, lookup), signal: NEVER });
      assert.ok(performance.now() - startMs > 500, 'the first SYN was lost');
      assert.equal(socket.remoteAddress, '127.0.0.1');
      socket.destroy();
    } finally {
      for (const socket of queued) socket.destroy();
      server.kill('SIGCONT');
      server.kill('SIGKILL');
    }
  });

  it('verifies the certificate in spite of NODE_TLS_REJECT_UNAUTHORIZED', async () => {
    const authority = await createTestAuthority(temp(''));
    const { certificate: cert, key } = await authority.issue('server', 'IP:127.0.0.1');
    await using sink = await startHttpSink({ tls: { cert, key } });
    const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED;
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
    try {
      const port = Number(new URL(sink.url).port);
      const connecting = connectGuarded({ host: '127.0.0.1', port, tls: {}, access: createNetworkAccess(), signal: NEVER });
      await assert.rejects(connecting, { code: /SELF_SIGNED|UNABLE_TO/ });
    } finally {
      if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
      else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before;
    }
  });

  it('is kept alive by the kernel, so that firewalls do not drop it while a server is busy', async () => {
    await using sink = await startHttpSink();
    const port = Number(new URL(sink.url).port);
    const socket = await connectGuarded({ host: '127.0.0.1', port, access: createNetworkAccess(), signal: NEVER });
    // proc(5): `tr tm->when`; 02 is the keep-alive timer, and the time left is in hundredths of a second.
    const localPort = (socket.localPort ?? 0).toString(16).toUpperCase().padStart(4, '0');
    const lines = readFileSync('/proc/net/tcp', 'utf8').split('\n');
    socket.destroy();
    const line = lines.find((each) => each.includes(`0100007F:${localPort} 0100007F:`));
    const [, left = ''] = / 02:([0-9A-F]{8}) /.exec(line ?? '') ?? [];
    assert.ok(Number.parseInt(left, 16) > 2500 && Number.parseInt(left, 16) <= 3000, line);
  });
});
