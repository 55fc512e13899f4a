/** The token of a file that another program renews. */

import { readFile } from 'node:fs/promises';

/** client-go reads a token again after a minute at the latest. */
const TOKEN_LIFE_MS = 60_000;

/**
 * Reads the token of a file that another program renews. When the file cannot be read, the last token is used again.
 * @returns a function that throws only before the first token was read: an Error of node:fs, or an Error for an empty
 * file
 */
export function createTokenFileReader(file: string, monotonicMs: () => number): () => Promise<string> {
  let last: { token: string; readMs: number } | undefined;
  return async () => {
    if (last !== undefined && monotonicMs() - last.readMs < TOKEN_LIFE_MS) return last.token;
    try {
      const token = (await readFile(file, 'utf8')).trim();
      if (token === '') throw new Error(`${file}: the token file is empty`);
      last = { token, readMs: monotonicMs() };
    } catch (error) {
      if (last === undefined) throw error;
    }
    return last.token;
  };
}
