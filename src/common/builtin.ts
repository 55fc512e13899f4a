/**
 * Modules of Node that are slow to load, each loaded by the first call. `import 'node:http'` evaluates whatever the module can
 * give, a WebSocket and its client among it, which takes 35 ms where this takes 4; node:tls takes 15 ms either way, so it and
 * node:https wait until somebody wants TLS.
 */

export function nodeHttp() {
  return process.getBuiltinModule('node:http');
}

export function nodeHttps() {
  return process.getBuiltinModule('node:https');
}

export function nodeTls() {
  return process.getBuiltinModule('node:tls');
}
