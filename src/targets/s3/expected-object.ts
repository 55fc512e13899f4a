/** An image as its object should be, by what was computed of its bytes here. */

import type { PartVerdict } from './judge-part.ts';
import type { Part } from './plan-parts.ts';

export interface ExpectedPart extends Part, PartVerdict {}

export interface ExpectedObject {
  /** As Amazon would make it: the MD5 of a body, or the tag of parts. */
  tag: string;
  /** The whole image, in order. */
  parts: readonly ExpectedPart[];
}
