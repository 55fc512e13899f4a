/** Signs that a qcow2 file is an incremental backup (a delta) that does not name its backing file. Pure. */

/**
 * In a delta an absent cluster means "unchanged", and a zero cluster means that the guest wrote zeros. A converted
 * image keeps the disk's bytes but loses that difference. KubeVirt's push mode writes such files as incremental
 * backups.
 */
export const EXPLICIT_ZEROS_NOTICE =
  'has explicit zero clusters and no backing file; if it is an incremental backup, export it with layout Verbatim (--verbatim), or its zeros are lost when it is rebased';

/** A backup's time contains at least a date. */
const MIN_TIME_DIGITS = 6;

/**
 * Whether a file lies where KubeVirt 1.8 writes backups in push mode: `VM/BACKUP-TIME/BACKUP-VOLUME.qcow2`
 * (VirtualMachineBackup). Nothing in such a file shows that it is incremental.
 */
export function isBackupLayout(relativePath: string): boolean {
  const [fileName = '', directory = ''] = relativePath.split('/').reverse();
  if (!fileName.toLowerCase().endsWith('.qcow2')) return false;
  for (let at = directory.indexOf('-'); at > 0; at = directory.indexOf('-', at + 1)) {
    const digits = directory.slice(at + 1).replace(/\D/g, '');
    if (digits.length >= MIN_TIME_DIGITS && fileName.startsWith(directory.slice(0, at + 1))) return true;
  }
  return false;
}
