/** A key that is equal for all names of one file. */

/** Device and inode of stat(2). Two open files with one key are the same file. */
export function fileKey({ dev, ino }: { dev: bigint; ino: bigint }): string {
  return `${dev}:${ino}`;
}
