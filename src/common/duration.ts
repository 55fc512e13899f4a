/** Durations for people, as kubectl prints them. */

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
