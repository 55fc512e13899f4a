#!/usr/bin/env bash
# The timeout of a Node socket that sends a large buffer comes after twice the time that was set.
#
# Seen with Node 24.21.0: a client sets socket.setTimeout(1000) and writes 64 MiB to a peer that never reads. The kernel takes the first
# part of the write at once and then no byte. The event "timeout" comes after 2 s. When the timer fires, Node finds that a part of the
# write has left since the write began, and starts the whole time again. An idle limit that relies on this timer is up to twice as long.
#
# Needs npm. It fails when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund node@24.21.0

cat > timeout.mjs << 'JS'
import net from 'node:net';
const LIMIT_MS = 1000;
const server = net.createServer((socket) => socket.pause().on('error', () => {}));
server.listen(0, '127.0.0.1', () => {
  const client = net.connect(server.address().port, '127.0.0.1', () => {
    const startMs = performance.now();
    client.setTimeout(LIMIT_MS, () => {
      const passedMs = performance.now() - startMs;
      console.log(`${process.version}: limit ${LIMIT_MS} ms, timeout after ${Math.round(passedMs)} ms`);
      process.exit(passedMs > 1.8 * LIMIT_MS ? 0 : 1);
    });
    client.write(Buffer.alloc(64 * 1024 * 1024));
  });
});
JS
node_modules/.bin/node timeout.mjs || { echo 'the behaviour has changed' >&2; exit 1; }
