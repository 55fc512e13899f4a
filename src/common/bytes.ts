/** Sizes, alignment and their text. Numbers are bytes below 2^53 unless a name says otherwise. */

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

/** The smallest multiple of `step` that is not below `value`. */
export function alignUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}

/** The largest multiple of `step` that is not above `value`. */
export function alignDown(value: number, step: number): number {
  return Math.floor(value / step) * step;
}

/** Whether `value` is 2^n for a whole n from 0 to 52. */
export function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** A size for people: `1536` is `1.5 KiB`. At most one decimal; exact sizes belong in numbers, not here. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

const SUFFIXES: Record<string, number> = { '': 1, k: KIB, m: MIB, g: GIB };

/**
 * Reads `65536`, `64K`, `64Ki`, `64KiB` or `2M` (always powers of 1024, as qemu-img reads them).
 * @returns the size in bytes, or undefined when the text is no such size.
 */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d{1,12})(?:([kmg])(?:ib|b|i)?)?$/i.exec(text);
  if (match === null) return undefined;
  return Number(match[1]) * (SUFFIXES[(match[2] ?? '').toLowerCase()] ?? Number.NaN);
}
