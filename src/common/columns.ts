/** Typed columns: a value takes 1 to 8 bytes, where an object for each row would take about 100. */

/** @returns a column of twice the length that begins with the values of `column` */
export function doubled<T extends Float64Array | Uint16Array | Uint8Array>(column: T): T {
  const Column = column.constructor as new (length: number) => T;
  const longer = new Column(2 * column.length);
  longer.set(column);
  return longer;
}

/** Binary search. @returns how many of the first `length` values, which ascend, are not above `limit` */
export function countNotAbove(values: ArrayLike<number>, limit: number, length = values.length): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] as number) <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Binary search. @returns the index of the last value that is not above `limit`; 0 when there is no such value */
export function lastNotAbove(values: ArrayLike<number>, limit: number, length = values.length): number {
  return Math.max(0, countNotAbove(values, limit, length) - 1);
}
