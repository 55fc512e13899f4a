/** Reads numbers and names in the bytes of another program, and never past their end. */

import { DiskliftError } from './errors.ts';

export interface BoundedView {
  readonly length: number;
  u8(at: number): number;
  u16(at: number): number;
  u32(at: number): number;
  /** @throws DiskliftError `FormatUnsupported` also for 2^53 and more */
  u64(at: number): number;
  /** A name in UTF-8. @throws DiskliftError `FormatUnsupported` also for other bytes and for a NUL */
  text(at: number, length: number): string;
  /** The error of a file that breaks the rules of its format. */
  refuse(why: string): DiskliftError;
}

export interface BoundedBytes {
  bytes: Uint8Array;
  /** Name of the file in messages. */
  name: string;
  isLittleEndian?: boolean;
}

/** Each function of the view @throws DiskliftError `FormatUnsupported` for a value that the bytes do not hold whole */
export function boundedView({ bytes, name, isLittleEndian = false }: BoundedBytes): BoundedView {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const refuse = (why: string) => new DiskliftError('FormatUnsupported', `${name}: ${why}`);

  function within(at: number, length: number): number {
    if (at < 0 || at + length > bytes.length) throw refuse(`ends where its header goes on, at byte ${bytes.length}`);
    return at;
  }

  return {
    length: bytes.length,
    u8: (at) => view.getUint8(within(at, 1)),
    u16: (at) => view.getUint16(within(at, 2), isLittleEndian),
    u32: (at) => view.getUint32(within(at, 4), isLittleEndian),
    u64(at) {
      const value = view.getBigUint64(within(at, 8), isLittleEndian);
      if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse(`its header has a number at byte ${at} that is too large: ${value}`);
      return Number(value);
    },
    text(at, length) {
      within(at, length);
      const text = decode(bytes.subarray(at, at + length));
      if (text === undefined || text.includes('\0')) throw refuse(`its header has a name at byte ${at} that is no text in UTF-8`);
      return text;
    },
    refuse,
  };
}

function decode(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
