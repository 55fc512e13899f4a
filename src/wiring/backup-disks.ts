/** The volumes of a VirtualMachineBackup as disks of an export. The pod mounts none of them: KubeVirt serves them. */

import { DiskliftError } from '../common/errors.ts';
import { type ReadyVmBackup, readVmBackup } from '../controller/virtual-machine-backup/read-vm-backup.ts';
import { createCredentialReader, endpointOf } from '../credentials/credentials.ts';
import type { NetworkAccess } from '../network/destination-policy.ts';
import { createGuardedGet } from '../network/guarded-get.ts';
import type { BaseImage } from '../receipts/contract.ts';
import type { ReceiptPoints } from '../receipts/receipt.ts';
import type { DiskExport } from '../resource/disk-export.ts';
import type { TrackedSource } from '../sources/changed/contract.ts';
import { type BackupApi, checkpointMade, requireCheckpoint } from './backup-checkpoint.ts';
import type { TargetEnvironment } from './destinations.ts';
import type { WorkerRole } from './worker.ts';

export interface BackupEnvironment extends Omit<TargetEnvironment, 'buffers' | 'allowAmbientCredentials'> {
  /** Left out without an API server. */
  backups?: BackupApi | undefined;
  /** Also to Services and pods of the cluster: KubeVirt serves a backup there. Left out without a cluster. */
  clusterAccess?: NetworkAccess | undefined;
  worker?: Pick<WorkerRole, 'backupUid'> | undefined;
}

export interface BackupDisk {
  /** Path in the status: the name of the volume in the VM. */
  path: string;
  /** @throws DiskliftError as {@link DiskPlan.openSource} */
  openSource(signal: AbortSignal, base?: BaseImage): Promise<TrackedSource>;
  /** For the receipt. Filled when the disk is opened. */
  points: ReceiptPoints;
}

/** Header of the token, in KubeVirt's export server. */
const TOKEN_HEADER = 'x-kubevirt-export-token';
/** Entry of the Secret. */
const TOKEN_KEY = 'token';

/**
 * All disks come from one backup: one that was made again under its name shows another point in time. The worker's
 * Job has its UID, because an earlier pod of the Job may have sent some of the disks.
 * @throws DiskliftError `SourceNotFound` where the backup serves nothing, `SourceChanged` for another one under its
 * name; the failures of the API server
 */
export async function findBackupDisks(request: DiskExport, environment: BackupEnvironment, signal: AbortSignal): Promise<BackupDisk[]> {
  const { name: backupName, uid, volumes } = await readReady(request, environment, signal);
  const { backupUid = uid } = environment.worker ?? {};
  if (uid !== backupUid) throw createdAgain(backupName);
  return volumes.map(({ name }) => {
    const disk: BackupDisk = {
      path: name,
      points: {},
      openSource: (until, base) => openBackupDisk({ request, uid, disk, environment, base }, until),
    };
    return disk;
  });
}

/** @throws DiskliftError `SourceNotFound`, for a backup that is not ready yet with a retry */
async function readReady({ metadata, spec }: DiskExport, { backups }: BackupEnvironment, signal: AbortSignal): Promise<ReadyVmBackup> {
  const name = spec.source.virtualMachineBackup?.name ?? '';
  const found = await backups?.virtualMachineBackups.get({ namespace: metadata.namespace, name }, { signal });
  if (found === undefined) throw new DiskliftError('SourceNotFound', `there is no VirtualMachineBackup ${name} in this namespace`);
  const state = readVmBackup(found);
  if (state.state === 'ready') return state;
  throw new DiskliftError('SourceNotFound', state.message, undefined, { retryable: state.state === 'pending' });
}

function createdAgain(name: string): DiskliftError {
  const message = `the VirtualMachineBackup ${name} was deleted and created again; create another DiskExport for it`;
  return new DiskliftError('SourceChanged', message, undefined, { retryable: false });
}

interface DiskToOpen {
  request: DiskExport;
  /** UID of the backup. */
  uid: string;
  disk: BackupDisk;
  environment: BackupEnvironment;
  base: BaseImage | undefined;
}

async function openBackupDisk({ request, uid, disk, environment, base }: DiskToOpen, signal: AbortSignal): Promise<TrackedSource> {
  const { namespace } = request.metadata;
  const { backups, clock, random, access, clusterAccess, proxy } = environment;
  const readSame = async (until: AbortSignal): Promise<ReadyVmBackup> => {
    const backup = await readReady(request, environment, until);
    if (backup.uid === uid) return backup;
    throw createdAgain(backup.name);
  };
  const backup = await readSame(signal);
  const volume = backup.volumes.find(({ name }) => name === disk.path);
  if (volume === undefined)
    throw new DiskliftError('SourceNotFound', `the VirtualMachineBackup ${backup.name} has no volume ${disk.path} any more`);
  const [dataUrl, mapUrl] = [volume.dataEndpoint, volume.mapEndpoint].map((text) => endpointUrl(text, backup.name)) as [URL, URL];
  if (dataUrl.origin !== mapUrl.origin)
    throw new DiskliftError(
      'SourceNotFound',
      `the VirtualMachineBackup ${backup.name} has endpoints at two servers; only one may have its token`,
    );
  const inCluster = { backups: backups as BackupApi, namespace, backup, volume: volume.name, signal };
  if (base !== undefined) await requireCheckpoint(inCluster, base);
  disk.points = await checkpointMade(inCluster);
  const credentials = createCredentialReader({ ...environment, namespace, mayCome: environment.referencesMayCome });
  const token = await credentials.readSecretKey({ name: backup.tokenSecretName, key: TOKEN_KEY }, endpointOf(dataUrl));
  const isInternal = isExportService(dataUrl, { namespace, name: backup.name });
  // Loaded when it is needed: few exports are of backups.
  const { openBackupVolume } = await import('../sources/virtual-machine-backup/open-backup-volume.ts');
  const source = await openBackupVolume({
    name: volume.name,
    dataUrl,
    mapUrl,
    isIncremental: base !== undefined,
    server: createGuardedGet({
      access: isInternal ? (clusterAccess ?? access) : access,
      tls: { ca: backup.endpointCert },
      // No proxy knows the Services of a cluster.
      proxy: isInternal ? {} : proxy,
      headers: { [TOKEN_HEADER]: token },
      clock,
    }),
    clock,
    random,
    signal,
    async identify(until) {
      const now = await readSame(until);
      return { backup: now.uid, checkpoint: now.checkpointName ?? '' };
    },
  });
  return base === undefined ? source : { ...source, changesFrom: 'VirtualMachineBackup' };
}

function endpointUrl(text: string, backupName: string): URL {
  if (URL.canParse(text) && new URL(text).protocol === 'https:') return new URL(text);
  throw new DiskliftError('SourceNotFound', `the VirtualMachineBackup ${backupName} has an endpoint that is no URL of https`);
}

const SERVICE_PREFIX = 'virt-export-';
/** Limit of a label in DNS: KubeVirt shortens longer names of Services by a hash. */
const MAX_LABEL = 63;

/**
 * Whether the endpoint is the Service that KubeVirt makes for the backup's export. The policy lets exports of a backup
 * go to this Service of their own namespace alone, and to no other one of the cluster.
 */
export function isExportService({ hostname, port }: URL, { namespace, name }: { namespace: string; name: string }): boolean {
  const suffix = `.${namespace}.svc`;
  if (port !== '' || !hostname.endsWith(suffix)) return false;
  const service = hostname.slice(0, -suffix.length);
  const whole = `${SERVICE_PREFIX}${name}`;
  return whole.length <= MAX_LABEL ? service === whole : /^virt-export-[-a-z0-9]+$/.test(service);
}
