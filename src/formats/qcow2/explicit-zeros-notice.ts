/** Notice for an image that may be a delta without a backing name. */

/**
 * In a delta an absent cluster means "unchanged", and a zero cluster means that the guest wrote zeros. A converted image keeps the
 * disk's bytes but loses that difference. KubeVirt's push mode writes such files as incremental backups.
 */
export const EXPLICIT_ZEROS_NOTICE =
  'has explicit zero clusters and no backing file; if it is an incremental backup, export it with layout Verbatim (--verbatim), or its zeros are lost when it is rebased';
