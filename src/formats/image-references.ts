/** What a file of an image refers to, as its author wrote it. None of it may be opened by its name before resolve-name has judged it. */

import type { DescribedExtent } from './vmdk/vmdk-extents.ts';
import type { VpcDisk } from './vpc/vpc-footer.ts';

export interface References {
  /**
   * The size of the disk as the image states it, in whole sectors of 512 bytes. Left out where other facts give it: a raw file's length,
   * the extents of a VMDK.
   */
  diskSizeBytes?: number;
  /** Location of the disk in a VHD. */
  vpc?: VpcDisk;
  /** Warning about the file, without its name; it does not stop the export. */
  warning?: string;
  /** `format` is what the image says of it. */
  backing?: { name: string; format?: string };
  dataFile?: { name: string };
  /** Of a VMDK that is only a descriptor. */
  extents?: readonly DescribedExtent[];
  /** VMDK: what a child of this image must know it by, and what this one knows its parent by. */
  contentId?: string;
  parentContentId?: string;
}
