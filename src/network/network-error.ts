/** Errors of the network as messages for people. */

import { DiskliftError } from '../common/errors.ts';
import { oneLine } from '../common/text.ts';

/** OpenSSL's reasons, as Node names them, and Node's own code for a certificate of another host. */
const CERTIFICATE_CODES = /^(CERT_|ERR_TLS_CERT|ERR_SSL_|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_|HOSTNAME_MISMATCH|INVALID_CA|EPROTO$)/;

/** A byte was changed on the way: this side detects it, or the other side's alert reports it. */
const HARMED_RECORD = /BAD[_ ]RECORD[_ ]MAC/i;

/** @param where the peer as it may be shown: a URL without its secrets, or host and port */
export function networkError(where: string, error: unknown): DiskliftError {
  if (error instanceof DiskliftError) return error;
  const { code = '', message = String(error) } = error as NodeJS.ErrnoException;
  if (HARMED_RECORD.test(`${code} ${message}`))
    return new DiskliftError('DestinationUnreachable', `${where}: TLS: the data was changed on the way`, error);
  // Another attempt does not repair a certificate.
  if (CERTIFICATE_CODES.test(code))
    return new DiskliftError('DestinationUnreachable', `${where}: TLS: ${tlsReason(code, message)}`, error, { retryable: false });
  return new DiskliftError('DestinationUnreachable', `${where}: ${reasonOf(code, message)}`, error);
}

/** Node's own codes mean nothing to a user, so plain words come first and the code follows. */
function reasonOf(code: string, message: string): string {
  const known = REASONS[code];
  if (known !== undefined) return known;
  if (code.startsWith('HPE_')) return `the answer is not valid HTTP (${code})`;
  if (code.startsWith('ERR_STREAM_') || code.startsWith('ERR_SOCKET_')) return 'the connection was closed';
  return code === '' ? oneLine(message) || 'the connection failed' : `the connection failed (${code})`;
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'the connection was reset',
  EPIPE: 'the connection was closed',
  ECONNABORTED: 'the connection was closed',
  ENOTFOUND: 'the name has no address',
  EAI_AGAIN: 'the name cannot be resolved now',
  ETIMEDOUT: 'the connection timed out',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'no route to the network',
  ENETDOWN: 'the network is down',
  EADDRNOTAVAIL: 'this host has no address or port left to connect from',
  EMFILE: 'this process has too many open files',
  ENFILE: 'this host has too many open files',
  EHOSTDOWN: 'the host is down',
  ENETRESET: 'the connection was reset by the network',
  ENOTCONN: 'the connection was closed',
  ENOBUFS: 'this host has no memory left for connections',
  EACCES: 'this host does not allow the connection',
  EPERM: 'this host does not allow the connection',
};

function tlsReason(code: string, message: string): string {
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return 'the certificate is for another name';
  if (code === 'CERT_HAS_EXPIRED') return 'the certificate has expired';
  if (/SELF_SIGNED|UNABLE_TO|DEPTH_ZERO/.test(code)) return 'the certificate is signed by an authority that is not trusted';
  const alert = /alert ([a-z ]+)/i.exec(message)?.[1];
  return alert === undefined ? code : `${code} (${alert.trim()})`;
}

/** The error of a connection that closed before its time, as Node reports a reset. */
export function closedError(): Error {
  return Object.assign(new Error('closed'), { code: 'ECONNRESET' });
}
