/** Paths of KubeVirt's backups: `VM/BACKUP-TIME/BACKUP-VOLUME.qcow2` (KubeVirt 1.8, VirtualMachineBackup in push mode). Pure. */

/** A backup's time contains at least a date. */
const MIN_TIME_DIGITS = 6;

/**
 * Whether a file lies where KubeVirt's push mode writes backups. An incremental backup is a delta without a backing name, and nothing in
 * the file shows that.
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
