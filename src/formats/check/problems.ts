/** The problems of an image: the fault, its place, and the bytes of the disk that it touches. The list is bounded. */

/** 'leaked': clusters that nothing uses; no byte of the disk is lost. */
type ProblemKind = 'corrupt' | 'truncated' | 'leaked';

export interface ImageProblem {
  kind: ProblemKind;
  /** Offset in the file. */
  offset: number;
  /** Completes "FILE: ". */
  message: string;
  /** Bytes of the disk that the problem touches. */
  guestOffset?: number;
  guestBytes?: number;
}

/** Kept problems; the others are counted. */
const MAX_KEPT_COUNT = 100;

export class Problems {
  readonly kept: ImageProblem[] = [];
  count = 0;

  add(problem: ImageProblem): void {
    const last = this.kept.at(-1);
    // Neighbours on the disk with the same fault are one problem.
    if (last !== undefined && this.count === this.kept.length && follows(last, problem)) {
      last.guestBytes = (last.guestBytes as number) + (problem.guestBytes as number);
      return;
    }
    this.count += 1;
    if (this.kept.length < MAX_KEPT_COUNT) this.kept.push({ ...problem });
  }
}

function follows(last: ImageProblem, { kind, guestOffset, guestBytes }: ImageProblem): boolean {
  if (kind !== 'truncated' || last.kind !== kind || guestBytes === undefined) return false;
  return last.guestOffset !== undefined && last.guestOffset + (last.guestBytes ?? 0) === guestOffset;
}

/** @returns one sentence: what, where, and what is lost */
export function problemText({ kind, message, guestOffset, guestBytes }: ImageProblem): string {
  if (kind === 'leaked') return `${message}; nothing of the disk is lost`;
  if (guestOffset === undefined || guestBytes === undefined) return message;
  return `${message}; touches bytes ${guestOffset} to ${guestOffset + guestBytes} of the disk`;
}
