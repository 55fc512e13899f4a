/** Valid and invalid messages of NBD servers, as bytes. Written from the protocol's document, not from src. */

export function u16(...values: number[]): Buffer {
  const bytes = Buffer.alloc(2 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt16BE(value, 2 * index);
  return bytes;
}

export function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value, 4 * index);
  return bytes;
}

export function u64(...values: (number | bigint)[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [index, value] of values.entries()) bytes.writeBigUInt64BE(BigInt(value), 8 * index);
  return bytes;
}

const join = (...parts: Uint8Array[]) => Buffer.concat(parts);

export const GREETING = join(Buffer.from('NBDMAGICIHAVEOPT'), u16(3));

export function optionReply(option: number, type: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  return join(u64(0x3e889045565a9n), u32(option, type, data.length), data);
}

export function exportInfo(size: number | bigint, flags = 3): Buffer {
  return join(u16(0), u64(size), u16(flags));
}

export function blockSizeInfo(minimum: number, preferred: number, maximum: number): Buffer {
  return join(u16(3), u32(minimum, preferred, maximum));
}

export const DONE = 1;

export interface ChunkFacts {
  cookie: bigint;
  flags?: number;
  /** Replaces the true length. */
  length?: number;
}

export function chunk(type: number, payload: Uint8Array, { cookie, flags = 0, length = payload.length }: ChunkFacts): Buffer {
  return join(u32(0x668e33ef), u16(flags, type), u64(cookie), u32(length), payload);
}

export const noneChunk = (facts: ChunkFacts) => chunk(0, Buffer.alloc(0), facts);
export const dataChunk = (offset: number | bigint, bytes: Uint8Array, facts: ChunkFacts) => chunk(1, join(u64(offset), bytes), facts);
export const holeChunk = (offset: number | bigint, length: number, facts: ChunkFacts) => chunk(2, join(u64(offset), u32(length)), facts);
export const statusChunk = (context: number, pairs: readonly number[], facts: ChunkFacts) => chunk(5, u32(context, ...pairs), facts);

export function errorChunk(error: number, text: string, facts: ChunkFacts & { offset?: number }): Buffer {
  const head = join(u32(error), u16(Buffer.byteLength(text)), Buffer.from(text));
  return facts.offset === undefined ? chunk(0x8001, head, facts) : chunk(0x8002, join(head, u64(facts.offset)), facts);
}

export function simpleReply(error: number, cookie: bigint, data: Uint8Array = Buffer.alloc(0)): Buffer {
  return join(u32(0x67446698, error), u64(cookie), data);
}
