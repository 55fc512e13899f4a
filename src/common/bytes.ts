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

/**
 * `K`, `M` and `G` are powers of 1024 on the command line, as for qemu-img. In the resource they are powers of 1000, as
 * in quantities of Kubernetes. `Ki`, `Mi` and `Gi` are powers of 1024 in both.
 */
export type SizeStyle = 'qemu' | 'kubernetes';

const SIZES = {
  // Also 64KiB and 64KB, which QEMU's tools print.
  qemu: /^(\d{1,12})(?:([kmg])(i?)b?)?$/i,
  kubernetes: /^(\d{1,12})(?:([KMGk])(i?))?$/,
} as const satisfies Record<SizeStyle, RegExp>;

const POWERS: Readonly<Record<string, number>> = { k: 1, m: 2, g: 3 };

/** Reads `65536`, `64K` and `64Ki`. @returns the size in bytes, or undefined when the text is no such size */
export function parseBytes(text: string, style: SizeStyle): number | undefined {
  const match = SIZES[style].exec(text);
  if (match === null || (style === 'kubernetes' && match[2] === 'k' && match[3] === 'i')) return undefined;
  const [, count, unit = '', binary = ''] = match;
  const base = style === 'qemu' || binary !== '' ? KIB : 1000;
  return Number(count) * base ** (POWERS[unit.toLowerCase()] ?? 0);
}
