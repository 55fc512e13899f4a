/** Extracts the server's own sentence from a refusal, because often only that sentence helps the user. */

import { redact } from '../common/redact.ts';

/** A longer sentence is truncated. */
const MAX_SHOWN_CHARACTERS = 200;

/** A shorter secret would match parts of ordinary words. */
const MIN_SECRET_CHARACTERS = 3;

/** More nested encodings than this do not occur in practice. */
const MAX_DECODINGS = 4;

/**
 * @param text plain text, XML, HTML or JSON as the server sent it; may be truncated
 * @param secrets texts that must not be shown if the server repeats them
 * @returns one line of printable text in brackets, to append to an error message; empty where nothing may be shown
 */
export function serverMessage(text: string, secrets: readonly string[]): string {
  if (repeatsSecret(text, secrets)) return '';
  const line = redact(decodeEntities(withoutTags(text, ' ')))
    .replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S}]+/gu, ' ')
    .trim();
  if (line === '') return '';
  const characters = [...line];
  return ` (${characters.length > MAX_SHOWN_CHARACTERS ? `${characters.slice(0, MAX_SHOWN_CHARACTERS).join('')}...` : line})`;
}

/** Stands in place of words that the author of a request must not see. */
export const NOT_SHOWN_IN_CLUSTER = ' (its answer is not shown, because it may come from inside the cluster: see clusterNetworks)';
export const NOT_SHOWN_BEHIND_REDIRECT = ' (its answer is not shown, because a redirect led there)';

/** Whether a text of the server contains one of `secrets` in any usual encoding. */
export function repeatsSecret(text: string, secrets: readonly string[]): boolean {
  return secrets.some((secret) => repeats(text, secret));
}

/** Whether `text` contains `secret` in any usual encoding, or ends with the beginning of `secret`. */
function repeats(text: string, secret: string): boolean {
  if (secret.length < MIN_SECRET_CHARACTERS) return false;
  const [shown, hidden] = [decodeFully(text), decodeFully(secret)];
  if (hidden.length < MIN_SECRET_CHARACTERS) return text.includes(secret);
  if (text.includes(secret) || shown.includes(hidden)) return true;
  for (let length = Math.min(hidden.length - 1, shown.length); length >= MIN_SECRET_CHARACTERS; length -= 1)
    if (shown.endsWith(hidden.slice(0, length))) return true;
  return false;
}

/** Normalises a text for comparison: removes encodings, tags, spaces (also a form's plus signs) and capitals. */
function decodeFully(text: string): string {
  let decoded = text;
  for (let round = 0; round < MAX_DECODINGS; round += 1) {
    const next = decodePercents(decodeEscapes(decodeEntities(decoded)));
    if (next === decoded) break;
    decoded = next;
  }
  return withoutTags(decoded, '')
    .replace(/[\s+]+/g, '')
    .toLowerCase();
}

function withoutTags(text: string, replacement: string): string {
  return text.replace(/<[^>]*>/g, replacement);
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: ' ' };

function decodeEntities(text: string): string {
  return text.replace(/&(?:#x([0-9a-f]{1,6})|#([0-9]{1,7})|([a-z]{2,4}));/gi, (entity, hex?: string, decimal?: string, name = '') => {
    if (hex !== undefined) return characterOf(Number.parseInt(hex, 16), entity);
    if (decimal !== undefined) return characterOf(Number(decimal), entity);
    return ENTITIES[name.toLowerCase()] ?? entity;
  });
}

function characterOf(code: number, otherwise: string): string {
  return code <= 0x10ffff ? String.fromCodePoint(code) : otherwise;
}

/** Decodes the escapes of JSON. */
function decodeEscapes(text: string): string {
  return text
    .replace(/\\u([0-9a-f]{4})/gi, (_escape, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    .replace(/\\(["/\\])/g, '$1');
}

/** Decodes the percent signs of URLs; runs that are not UTF-8 stay unchanged. */
function decodePercents(text: string): string {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (run) => {
    try {
      return decodeURIComponent(run);
    } catch {
      return run;
    }
  });
}
