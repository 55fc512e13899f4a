/** What a user is told of an image that may be a delta whose backing file nobody has named. */

/**
 * In a delta, a cluster that is not there means "unchanged", and a zero cluster means that the guest wrote zeros. A converted image
 * keeps the disk's bytes and not that difference; KubeVirt's push mode writes incremental backups as such files.
 */
export const EXPLICIT_ZEROS_NOTICE =
  'has explicit zero clusters and no backing file; if it is an incremental backup, export it with layout Verbatim (--verbatim), or its zeros are lost when it is rebased';
