/** Sizes in the notation of Kubernetes, such as 10Gi, 1.5T and 1e9. Pure. */

const QUANTITY = /^\+?(\d+(?:\.\d*)?|\.\d+)(m|[kMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?$/;

const POWERS = ['', 'k', 'M', 'G', 'T', 'P', 'E'];

/** @returns bytes; undefined for text that is no quantity. Sizes above 2^53 are rounded. */
export function quantityBytesOf(quantity: string): number | undefined {
  const [, count, unit = ''] = QUANTITY.exec(quantity) ?? [];
  if (count === undefined) return undefined;
  if (unit === 'm') return Number(count) / 1000;
  if (/^[eE][+-]?\d/.test(unit)) return Number(`${count}${unit}`);
  const isBinary = unit.endsWith('i');
  const power = POWERS.indexOf(isBinary ? unit.slice(0, -1).replace('K', 'k') : unit);
  return Number(count) * (isBinary ? 1024 : 1000) ** power;
}

/** @returns the larger of two quantities; one that cannot be read counts as missing */
export function larger(a: string | undefined, b: string | undefined): string | undefined {
  const aBytes = quantityBytesOf(a ?? '');
  const bBytes = quantityBytesOf(b ?? '');
  if (aBytes === undefined) return bBytes === undefined ? undefined : b;
  return bBytes !== undefined && bBytes > aBytes ? b : a;
}
