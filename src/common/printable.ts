/** Text that came from a disk or a peer, as people may see it. */

/** Characters that end a line, control a terminal, or change the direction of the text around them. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** @returns one line. A character that would end it, or change how the rest of it looks, stands there as JSON writes it: `\u202e` */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Counts as Kubernetes does, in code points. @returns the text, or its beginning with an ellipsis */
export function truncated(text: string, maxCharacters: number): string {
  // A text has at least as many UTF-16 units as code points.
  if (text.length <= maxCharacters) return text;
  const characters = [...text.slice(0, 2 * maxCharacters + 2)];
  return characters.length > maxCharacters ? `${characters.slice(0, maxCharacters - 1).join('')}…` : text;
}
