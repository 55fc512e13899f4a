/**
 * Modules of Node that are slow to load; the first call loads each. `import 'node:http'` evaluates all that the module
 * exports, including a WebSocket client, which takes 35 ms; this takes 4 ms. node:tls takes 15 ms either way, so it and
 * node:https are loaded for the first TLS connection.
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
