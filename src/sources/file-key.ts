/** One text for one file, whatever its names. */

/** Of stat(2): device and inode. Two open files with one key are the same file. */
export function fileKey({ dev, ino }: { dev: bigint; ino: bigint }): string {
  return `${dev}:${ino}`;
}
