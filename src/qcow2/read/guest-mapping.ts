/**
 * Where the bytes of a disk lie, in which file of its image: ranges in typed columns, 18 bytes each, found by binary search. Memory
 * follows how scattered the disk lies in its files, never how large it is.
 */

/** A place in a file. `file` is the number that whoever made the mapping has given it. */
interface Place {
  file: number;
  offset: number;
}

/** A stretch of the disk; without a place it is zeros. */
interface MappedRange {
  offset: number;
  length: number;
  place: Place | undefined;
}

export interface GuestMapping {
  readonly sizeBytes: number;
  readonly rangeCount: number;
  /** The ranges that make up bytes `start` (inclusive) to `end` (exclusive), cut to these, in order and without a gap. */
  ranges(start: number, end: number): Iterable<MappedRange>;
}

export interface GuestMappingBuilder {
  /** Bytes appended so far. */
  readonly sizeBytes: number;
  readonly rangeCount: number;
  /** Appends a stretch behind those appended before. One that goes on where the last ends, in the same file, makes that longer. */
  append(length: number, place: Place | undefined): void;
  build(): GuestMapping;
}

/** In the column of places: zeros. */
const NOWHERE = -1;

export function createGuestMappingBuilder(): GuestMappingBuilder {
  let capacity = 64;
  let starts = new Float64Array(capacity);
  let places = new Float64Array(capacity);
  let files = new Uint16Array(capacity);
  let rangeCount = 0;
  let sizeBytes = 0;

  function grow(): void {
    capacity *= 2;
    const [oldStarts, oldPlaces, oldFiles] = [starts, places, files];
    starts = new Float64Array(capacity);
    places = new Float64Array(capacity);
    files = new Uint16Array(capacity);
    starts.set(oldStarts);
    places.set(oldPlaces);
    files.set(oldFiles);
  }

  function isNext(offset: number, file: number): boolean {
    const last = rangeCount - 1;
    if (last < 0) return false;
    if (offset === NOWHERE) return places[last] === NOWHERE;
    const lastPlace = places[last] as number;
    return files[last] === file && lastPlace !== NOWHERE && lastPlace + (sizeBytes - (starts[last] as number)) === offset;
  }

  return {
    get sizeBytes() {
      return sizeBytes;
    },
    get rangeCount() {
      return rangeCount;
    },
    append(length, { file, offset } = { file: 0, offset: NOWHERE }) {
      if (length === 0) return;
      if (!isNext(offset, file)) {
        if (rangeCount === capacity) grow();
        starts[rangeCount] = sizeBytes;
        places[rangeCount] = offset;
        files[rangeCount] = file;
        rangeCount += 1;
      }
      sizeBytes += length;
    },
    build: () => freeze({ starts, places, files, rangeCount, sizeBytes }),
  };
}

interface Columns {
  starts: Float64Array;
  places: Float64Array;
  files: Uint16Array;
  rangeCount: number;
  sizeBytes: number;
}

function freeze({ starts, places, files, rangeCount, sizeBytes }: Columns): GuestMapping {
  function rangeAt(offset: number): number {
    let low = 0;
    let high = rangeCount - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((starts[middle] as number) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  return {
    sizeBytes,
    rangeCount,
    *ranges(start, end) {
      if (start < 0 || end > sizeBytes) throw new RangeError(`bytes ${start}..${end} are not on the disk`);
      let index = rangeAt(start);
      for (let at = start; at < end; index += 1) {
        const rangeEnd = index + 1 < rangeCount ? (starts[index + 1] as number) : sizeBytes;
        const to = Math.min(end, rangeEnd);
        const offset = places[index] as number;
        const place = offset === NOWHERE ? undefined : { file: files[index] as number, offset: offset + (at - (starts[index] as number)) };
        yield { offset: at, length: to - at, place };
        at = to;
      }
    },
  };
}
