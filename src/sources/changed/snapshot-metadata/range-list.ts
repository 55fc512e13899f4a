/** Checks the messages of the service, and keeps their ranges in typed columns. Pure. */

import { doubled } from '../../../common/columns.ts';
import type { RangeList, RangesMessage } from './contract.ts';
import { refusedList } from './service-errors.ts';

/** 16 bytes each. Every other 64 KiB of a volume of 512 GiB are as many. */
const MAX_RANGES = 4 * 1024 * 1024;

const STYLES = ['FIXED_LENGTH', 'VARIABLE_LENGTH'];

export interface RangeListBuilder {
  /** Offset from which another stream has to go on. */
  readonly nextOffset: number;
  /** Whether the last byte of the volume was in a range: no other range can follow. */
  readonly isComplete: boolean;
  /** Begins a stream: its first range may begin before `nextOffset`, and only what lies behind counts. */
  beginStream(): void;
  /** @throws DiskliftError `ChangesRefused` for a message that makes the list unusable */
  add(message: RangesMessage): void;
  /** @throws DiskliftError `ChangesRefused` when no message came: then the capacity is not known */
  build(): RangeList;
}

export function createRangeList(name: string): RangeListBuilder {
  return new Builder(name);
}

class Builder implements RangeListBuilder {
  nextOffset = 0;
  private readonly name: string;
  private starts = new Float64Array(1024);
  private ends = new Float64Array(1024);
  private count = 0;
  private first: Pick<RangesMessage, 'style' | 'capacityBytes'> | undefined;
  /** Length of all ranges of a stream of FIXED_LENGTH. */
  private fixedLength: number | undefined;
  /** End of the last range of this stream; -1 where the next range may begin before `nextOffset`. */
  private streamEnd = -1;

  constructor(name: string) {
    this.name = name;
  }

  get isComplete(): boolean {
    return this.first !== undefined && this.first.capacityBytes > 0 && this.nextOffset === this.first.capacityBytes;
  }

  beginStream(): void {
    this.streamEnd = -1;
  }

  add({ style, capacityBytes, ranges }: RangesMessage): void {
    if (!STYLES.includes(style)) this.refuse(`its ranges are of the style ${style}`);
    if (!Number.isSafeInteger(capacityBytes) || capacityBytes < 0) this.refuse(`it states a volume of ${capacityBytes} bytes`);
    this.first ??= { style, capacityBytes };
    if (style !== this.first.style) this.refuse(`it has ranges of the styles ${this.first.style} and ${style}`);
    if (capacityBytes !== this.first.capacityBytes)
      this.refuse(`it states volumes of ${this.first.capacityBytes} and of ${capacityBytes} bytes`);
    for (const { offset, length } of ranges) this.addRange(offset, length, capacityBytes);
  }

  build(): RangeList {
    if (this.first === undefined) this.refuse('its stream ended without a message');
    const { starts, ends, count } = this;
    return { capacityBytes: this.first.capacityBytes, count, starts, ends };
  }

  private addRange(offset: number, length: number, capacityBytes: number): void {
    const end = offset + length;
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(end) || offset < 0 || length <= 0)
      this.refuse(`it has a range of ${length} bytes at offset ${offset}`);
    const isFixed = this.first?.style === 'FIXED_LENGTH';
    if (isFixed) {
      this.fixedLength ??= length;
      if (length !== this.fixedLength) this.refuse(`its ranges of one length have ${this.fixedLength} and ${length} bytes`);
    }
    const isFirst = this.streamEnd < 0;
    if (isFirst ? end <= this.nextOffset : offset < this.streamEnd)
      this.refuse(`the range at offset ${offset} comes after offset ${isFirst ? this.nextOffset : this.streamEnd}`);
    // Blocks of one length cannot end exactly with every volume.
    if (offset >= capacityBytes || (!isFixed && end > capacityBytes))
      this.refuse(`a range ends at offset ${end}, and the volume at ${capacityBytes}`);
    this.streamEnd = end;
    this.append(Math.max(offset, this.nextOffset), Math.min(end, capacityBytes));
    this.nextOffset = Math.min(end, capacityBytes);
  }

  private append(start: number, end: number): void {
    if (this.count > 0 && this.ends[this.count - 1] === start) {
      this.ends[this.count - 1] = end;
      return;
    }
    if (this.count === MAX_RANGES) this.refuse(`it has more than ${MAX_RANGES} ranges`);
    if (this.count === this.starts.length) {
      this.starts = doubled(this.starts);
      this.ends = doubled(this.ends);
    }
    this.starts[this.count] = start;
    this.ends[this.count] = end;
    this.count += 1;
  }

  private refuse(what: string): never {
    throw refusedList(this.name, what);
  }
}
