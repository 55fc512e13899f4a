/** Which bytes of a read have come. Pure. */

/** Servers split answers at sectors, but for the first and the last piece. */
const SMALLEST_PIECE_BYTES = 512;

export class CoveredRanges {
  /** Start and end in turn, ascending; ranges that touch are one. */
  private readonly edges: number[] = [];
  private readonly lengthBytes: number;
  private readonly mostEdges: number;

  constructor(lengthBytes: number) {
    this.lengthBytes = lengthBytes;
    this.mostEdges = 2 * (2 + lengthBytes / SMALLEST_PIECE_BYTES);
  }

  /** @returns false when a byte from `start` up to `end` was there already, or they lie scattered as no server has cause to */
  add(start: number, end: number): boolean {
    const { edges } = this;
    // The edges that lie at or before `start`: an even number of them, or one that begins a range around it.
    let before = edges.length;
    if (start < (edges.at(-1) ?? 0)) before = countUpTo(edges, start);
    if (before % 2 === 1 || end > (edges[before] ?? Number.POSITIVE_INFINITY)) return false;
    const touchesPrevious = before > 0 && edges[before - 1] === start;
    const touchesNext = edges[before] === end;
    if (touchesPrevious && touchesNext) edges.splice(before - 1, 2);
    else if (touchesPrevious) edges[before - 1] = end;
    else if (touchesNext) edges[before] = start;
    else edges.splice(before, 0, start, end);
    return edges.length <= this.mostEdges;
  }

  /** The first byte that is missing, or undefined when all are there. */
  firstMissing(): number | undefined {
    const [start = 0, end = 0] = this.edges;
    if (start > 0) return 0;
    return end < this.lengthBytes ? end : undefined;
  }
}

/** How many of the ascending `values` are not above `limit`. */
function countUpTo(values: readonly number[], limit: number): number {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] as number) <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}
