/** What a file of an image refers to, as its author wrote it. None of it may be opened by its name before resolve-name has judged it. */

import type { DescribedExtent } from './vmdk-extents.ts';

export interface References {
  /** `format` is what the image says of it. */
  backing?: { name: string; format?: string };
  dataFile?: { name: string };
  /** Of a VMDK that is only a descriptor. */
  extents?: readonly DescribedExtent[];
  /** VMDK: what a child of this image must know it by, and what this one knows its parent by. */
  contentId?: string;
  parentContentId?: string;
}
