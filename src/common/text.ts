/** Text for people: one line, within a length, without control characters. */

/** Characters that end a line, control a terminal, or change the direction of the text around them. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/**
 * @returns one line. Characters that would end it, or change how the rest of it looks, are escaped as in JSON: `\u202e`
 */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** @returns the words of the text, with one space between them and no line break */
export function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

/** Counts as Kubernetes does, in code points. @returns the text, or its beginning with an ellipsis */
export function truncated(text: string, maxCharacters: number): string {
  // A text has at least as many UTF-16 units as code points.
  if (text.length <= maxCharacters) return text;
  const characters = [...text.slice(0, 2 * maxCharacters + 2)];
  return characters.length > maxCharacters ? `${characters.slice(0, maxCharacters - 1).join('')}…` : text;
}

export async function textWithin(
  stream: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  maxBytes: number,
  tooLarge: () => Error,
): Promise<string> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of stream) {
    sizeBytes += chunk.length;
    if (sizeBytes > maxBytes) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

const UNITS = [
  ['d', 86_400],
  ['h', 3600],
  ['m', 60],
  ['s', 1],
] as const;

/** Two units at most: `45s`, `12m30s`, `3h`, `2d4h`. */
export function formatDuration(durationMs: number): string {
  const seconds = Math.max(0, Math.round(durationMs / 1000));
  const largest = UNITS.findIndex(([, length]) => seconds >= length);
  if (largest < 0) return '0s';
  let left = seconds;
  return UNITS.slice(largest, largest + 2)
    .map(([unit, length]) => {
      const count = Math.floor(left / length);
      left -= count * length;
      return count === 0 ? '' : `${count}${unit}`;
    })
    .join('');
}

/** Texts that {@link shortened} shows. */
const MAX_SHOWN_COUNT = 10;

/** The first texts and the count of the others, because a volume may hold thousands of files. */
export function shortened(texts: readonly string[], separator: ', ' | '; ' = '; '): string {
  const shown = texts.slice(0, MAX_SHOWN_COUNT).join(separator);
  return texts.length > MAX_SHOWN_COUNT ? `${shown}${separator}and ${texts.length - MAX_SHOWN_COUNT} more` : shown;
}
