/** Numbers as people read them. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function formatBytes(bytes) {
  let [value, unit] = [bytes, 0];
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${Number.isInteger(value) || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

export function formatRate(bytesPerSecond) {
  return `${formatBytes(Math.round(bytesPerSecond))}/s`;
}

export function formatDuration(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

const COUNT = new Intl.NumberFormat('en');

export function formatCount(count) {
  return COUNT.format(count);
}

/** Whole percent; 100 and 0 are for all and nothing. */
export function formatShare(part, whole) {
  if (whole === 0 || part === 0) return '0 %';
  if (part >= whole) return '100 %';
  const percent = (100 * part) / whole;
  return percent < 1 ? '<1 %' : `${Math.min(99, Math.round(percent))} %`;
}

const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });

export function formatTime(timestamp) {
  return TIME.format(new Date(timestamp));
}

const PHASES = {
  Pending: 'Waiting',
  Scanning: 'Scanning',
  Streaming: 'Sending',
  Verifying: 'Verifying',
  Succeeded: 'Arrived',
  Failed: 'Failed',
  Cancelled: 'Cancelled',
};

/** A phase in a word of this page. */
export function formatPhase(phase) {
  return PHASES[phase] ?? phase;
}

/** How an export stands, in a word or two of this page; `nowMs` is for the time that is left until the next attempt. */
export function formatState({ phase, isUnclaimed, nextAttemptTime }, nowMs) {
  if (isUnclaimed) return 'Unclaimed';
  if (nextAttemptTime === undefined) return formatPhase(phase);
  return `Retrying in ${formatDuration(Math.max(0, Math.ceil((Date.parse(nextAttemptTime) - nowMs) / 1000)))}`;
}

// The characters that src/common/printable.ts replaces.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** A name that came from a disk, without characters that change how the rest of the page looks. */
export function printable(text) {
  return text.replace(UNPRINTABLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
