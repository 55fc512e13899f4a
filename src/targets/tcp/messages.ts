/**
 * The lines of the Acknowledged protocol: JSON objects, docs/decisions/0009-tcp-protocol.md. Fields that are not known
 * are ignored.
 */

import { DiskliftError } from '../../common/errors.ts';
import { NOT_SHOWN_IN_CLUSTER } from '../../network/server-message.ts';

const PROTOCOL = 'disklift/1';

/** Longest line, with its newline. */
export const MAX_LINE_BYTES = 4096;

/** Longest text of a peer in a message. */
const MAX_HINT_CHARACTERS = 200;

/** Both ends read again what the receiver holds from an earlier try. Lower bound for the speed of that read. */
const MIN_REREAD_BYTES_PER_MS = 100_000;

/** Additional wait where the peer first reads and hashes `sizeBytes` again. */
export function rereadAllowanceMs(sizeBytes: number): number {
  return Math.ceil(sizeBytes / MIN_REREAD_BYTES_PER_MS);
}

/** The sender's first line. */
export interface Hello {
  /** The export's uid. */
  exportUid: string;
  disk: string;
  /** Size of the whole image. */
  sizeBytes: number;
  /** Equal fingerprints mean equal bytes. Without it a transfer cannot resume. */
  fingerprint?: string;
}

/** The receiver's last line: what it holds. */
export interface Confirmation {
  sizeBytes: number;
  sha256?: string;
}

/** A receiver as it may be shown. */
export interface ShownPeer {
  where: string;
  /** Whether the receiver's text may be shown. */
  mayQuote: boolean;
}

export function helloLine({ exportUid, disk, sizeBytes, fingerprint }: Hello): string {
  return lineOf({ protocol: PROTOCOL, export: exportUid, disk, size: sizeBytes, fingerprint });
}

export function offsetLine(offsetBytes: number): string {
  return lineOf({ offset: offsetBytes });
}

export function confirmationLine({ sizeBytes, sha256 }: Confirmation): string {
  return lineOf({ size: sizeBytes, sha256 });
}

export function errorLine({ message, retryable }: DiskliftError): string {
  return lineOf({ error: message, ...(retryable ? { retryable } : {}) });
}

/** A sender whose digest differs from the receiver's sends this, so that the receiver removes the image. */
export function discardLine(): string {
  return lineOf({ discard: true });
}

export function isDiscard(line: string): boolean {
  return objectOf(line)?.discard === true;
}

/** @throws DiskliftError `DestinationRejected` with a message for the sender */
export function parseHello(line: string): Hello {
  const hello = objectOf(line);
  if (hello === undefined) throw refusal('the first line is not a JSON object');
  const { protocol, export: exportUid, disk, size, fingerprint } = hello;
  if (protocol !== PROTOCOL) throw refusal(`the protocol is not ${PROTOCOL}`);
  if (typeof exportUid !== 'string' || exportUid === '') throw refusal('"export" is not a text');
  if (typeof disk !== 'string' || disk === '') throw refusal('"disk" is not a text');
  if (!isCount(size) || size === 0) throw refusal('"size" is not a number of bytes');
  if (fingerprint !== undefined && typeof fingerprint !== 'string') throw refusal('"fingerprint" is not a text');
  return { exportUid, disk, sizeBytes: size, ...(fingerprint === undefined ? {} : { fingerprint }) };
}

/** @throws DiskliftError `DestinationRejected`: the receiver refuses, or makes no sense */
export function parseOffset(line: string, sizeBytes: number, peer: ShownPeer): number {
  const { where } = peer;
  const { offset } = replyOf(line, peer);
  if (!isCount(offset) || offset > sizeBytes)
    throw refusal(`${where}: the receiver claims to hold ${quoted(JSON.stringify(offset) ?? 'nothing', peer)} of ${sizeBytes} bytes`);
  return offset;
}

/** @throws DiskliftError `DestinationRejected`: the receiver refuses, or makes no sense */
export function parseConfirmation(line: string, peer: ShownPeer): Confirmation {
  const { where } = peer;
  const { size, sha256 } = replyOf(line, peer);
  if (!isCount(size)) throw refusal(`${where}: the receiver confirms without a size`);
  if (sha256 === undefined) return { sizeBytes: size };
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/i.test(sha256)) throw refusal(`${where}: the receiver's sha256 is not valid`);
  return { sizeBytes: size, sha256: sha256.toLowerCase() };
}

function replyOf(line: string, peer: ShownPeer): Record<string, unknown> {
  const { where } = peer;
  const reply = objectOf(line);
  if (reply === undefined) throw refusal(`${where}: the receiver's answer is not a JSON object (${quoted(line, peer)})`);
  const { error, retryable } = reply;
  if (error !== undefined)
    throw refusal(
      `${where}: the receiver refuses: ${quoted(typeof error === 'string' ? error : JSON.stringify(error), peer)}`,
      retryable === true,
    );
  return reply;
}

function refusal(message: string, retryable = false): DiskliftError {
  return new DiskliftError('DestinationRejected', message, undefined, { retryable });
}

function objectOf(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function lineOf(message: Record<string, unknown>): string {
  return `${JSON.stringify(message)}\n`;
}

/** One line of printable text. */
function quoted(text: string, { mayQuote }: ShownPeer): string {
  return mayQuote ? hintOf(text) : NOT_SHOWN_IN_CLUSTER.trim();
}

function hintOf(text: string): string {
  const line = text.replace(/[^\x20-\x7e]+/g, ' ').trim();
  return line.length > MAX_HINT_CHARACTERS ? `${line.slice(0, MAX_HINT_CHARACTERS)}...` : line;
}
