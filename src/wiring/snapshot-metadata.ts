/** The SnapshotMetadata service of a worker: what the controller has told it, and disks that use it. */

import { isIP } from 'node:net';
import { promisify } from 'node:util';
import { abortable } from '../common/abortable.ts';
import type { Clock } from '../common/clock.ts';
import { DiskliftError } from '../common/errors.ts';
import type { NetworkAccess } from '../network/destination-policy.ts';
import { isFields } from '../resource/schema.ts';
import type { TrackedSource } from '../sources/changed/contract.ts';
import type { MetadataService } from '../sources/changed/snapshot-metadata/contract.ts';
import type { DiskSource } from '../sources/contract.ts';

/** The snapshot of which the worker's volume is a clone, and the service of its driver. */
export interface WorkerSnapshot {
  driver: string;
  handle: string;
  /** The VolumeSnapshot. */
  name: string;
  /** Handle of the volume at its driver, where the cluster knows it. */
  volume?: string | undefined;
  service: Omit<MetadataService, 'locate'>;
}

export type WorkerMetadata =
  | { kind: 'service'; snapshot: WorkerSnapshot }
  /** Why there is no service, in words. */
  | { kind: 'none'; problem: string };

const TEXTS = ['driver', 'handle', 'name', 'address', 'tokenFile', 'caCert'] as const;

/**
 * @param text JSON of the setting; '' where the controller has set none
 * @throws DiskliftError `InvalidRequest`
 */
export function parseWorkerMetadata(text: string): WorkerMetadata | undefined {
  if (text === '') return undefined;
  const value = parsed(text);
  if (typeof value?.problem === 'string') return { kind: 'none', problem: value.problem };
  const [driver, handle, name, address, tokenFile, caCert] = TEXTS.map((key) => {
    const found = value?.[key];
    if (typeof found === 'string') return found;
    throw new DiskliftError('InvalidRequest', `snapshotMetadata: has no text ${key}`);
  }) as [string, string, string, string, string, string];
  const service = { address, tokenFile, caCert: Buffer.from(caCert, 'base64').toString('utf8') };
  const ofVolume = typeof value?.volume === 'string' ? { volume: value.volume } : {};
  return { kind: 'service', snapshot: { driver, handle, name, ...ofVolume, service } };
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isFields(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

export interface SnapshotEnvironment {
  namespace: string;
  snapshot: WorkerSnapshot;
  /** Where the services of the cluster may be. */
  access: NetworkAccess;
  clock: Clock;
  warn(message: string): void;
}

/**
 * Opens the clone with the list of what has data. A list that cannot be had is a warning.
 * @throws DiskliftError of `open`
 */
export function openListed(
  open: (signal: AbortSignal) => Promise<DiskSource>,
  environment: SnapshotEnvironment,
  signal: AbortSignal,
): Promise<DiskSource> {
  return opened(open, signal, async (disk) => {
    const { listData } = await import('../sources/changed/snapshot-metadata/snapshot-disk.ts');
    return listData({ disk, ...questionOf(environment, signal) }, environment.warn);
  });
}

/**
 * Opens the clone with the list of what has changed since the snapshot of the base.
 * @throws DiskliftError of `open`; `ChangesMissing`, `ChangesRefused`; errors of the service. The clone is closed then
 */
export function openTracked(
  open: (signal: AbortSignal) => Promise<DiskSource>,
  baseHandle: string,
  environment: SnapshotEnvironment,
  signal: AbortSignal,
): Promise<TrackedSource> {
  return opened(open, signal, async (disk) => {
    const { trackChanges } = await import('../sources/changed/snapshot-metadata/snapshot-disk.ts');
    return trackChanges({ disk, baseHandle, ...questionOf(environment, signal) });
  });
}

async function opened<T extends DiskSource>(
  open: (signal: AbortSignal) => Promise<DiskSource>,
  signal: AbortSignal,
  use: (disk: DiskSource) => Promise<T>,
): Promise<T> {
  const disk = await open(signal);
  try {
    return await use(disk);
  } catch (error) {
    await disk.dispose();
    throw error;
  }
}

function questionOf({ namespace, snapshot: { name, service }, access, clock }: SnapshotEnvironment, signal: AbortSignal) {
  const locate: MetadataService['locate'] = (host, locateSignal) => addressOf(host, access, locateSignal);
  return { service: { ...service, locate }, snapshot: { namespace, name }, clock, random: Math.random, signal };
}

/** @throws DiskliftError `DestinationNotAllowed`; `SourceReadError` for a name without an address */
async function addressOf(host: string, access: NetworkAccess, signal: AbortSignal): Promise<string> {
  access.checkHost(host);
  if (isIP(host) !== 0) return host;
  try {
    const found = await abortable(promisify(access.lookup)(host, {}), signal);
    return typeof found === 'string' ? found : (found as unknown as { address: string }).address;
  } catch (error) {
    if (error instanceof DiskliftError) throw error;
    throw new DiskliftError('SourceReadError', `the SnapshotMetadata service ${host}: the name has no address`, error);
  }
}
