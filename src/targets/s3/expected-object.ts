/** The object that the image should become, with the MD5s that were computed here. */

import type { PartVerdict } from './judge-part.ts';
import type { Part } from './plan-parts.ts';

export interface ExpectedPart extends Part, PartVerdict {}

export interface ExpectedObject {
  /** Amazon's tag: the MD5 of a body, or the tag of a multipart object. */
  tag: string;
  /** The whole image, in order. */
  parts: readonly ExpectedPart[];
}
