/**
 * Reads a stream whole, and never holds more of it than the limit and one chunk.
 * @param tooLarge gives the error for a stream of more than `maxBytes`
 * @throws the error of `tooLarge`; the stream's own
 */
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
