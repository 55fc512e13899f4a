/**
 * The volumes of a VirtualMachine that an export can read, and the reason for each that it cannot.
 *
 * - Exported: volumes on a claim, also hot-plugged ones, CD-ROMs and LUNs. A VM whose CD-ROM is missing does not start,
 *   so its claim belongs to a complete export; `volumes` of the request can leave it out.
 * - Listed with a reason: disks whose bytes are on no claim of their own, and claims that hold no disk.
 * - Not listed: cloud-init, sysprep, Secrets and the like. KubeVirt makes these from vm.yaml and from other objects.
 */

import type { Fields } from '../../resource/schema.ts';
import { objectsAt, textAt, type UncheckedObject, valueAt } from './read-fields.ts';

interface VmVolume {
  /** Name of the volume in the VM. */
  name: string;
  claimName: string;
}

export interface LeftOutVolume {
  name: string;
  /** Follows the name in a message: "scratch: is an empty disk…" */
  why: string;
}

export interface VmVolumes {
  volumes: VmVolume[];
  /** If the request selects volumes, only selected ones are here, and each is an error of the request. */
  leftOut: LeftOutVolume[];
  /** Selected names that the VM does not have. */
  unknown: string[];
}

/** Disks that are not exported. */
const REASONS: Readonly<Record<string, (source: unknown) => string>> = {
  containerDisk: (source) => `comes from the container image ${textAt(source, 'image') ?? ''}; the guest's changes end with the VM`,
  ephemeral: (source) =>
    `is a temporary layer over the claim ${textAt(source, 'persistentVolumeClaim', 'claimName') ?? ''}; the guest's changes end with the VM`,
  hostDisk: (source) => `is the file ${textAt(source, 'path') ?? ''} of a node; no claim holds it`,
  emptyDisk: () => 'is an empty disk; its content ends with the VM',
  memoryDump: () => 'holds a dump of memory, not a disk',
};

/** No disks of the guest's: KubeVirt makes them from definitions. */
const DEFINITIONS: ReadonlySet<string> = new Set([
  'cloudInitNoCloud',
  'cloudInitConfigDrive',
  'configMap',
  'secret',
  'serviceAccount',
  'downwardAPI',
  'downwardMetrics',
  'sysprep',
  'containerPath',
]);

const DEFINITION_REASON = 'is made from a definition, not from a disk; vm.yaml has it';
const FILE_SYSTEM_REASON = 'is shared with the guest as a file system (virtiofs); its claim holds files, not a disk';
const HOTPLUG_REASON =
  'is hot-plugged to the running VM only, and not in the definition of the VM; export its claim, or attach it to the definition';

/** @param vmi the running instance, which may have volumes that the VM does not define */
export function volumesOfVm(vm: UncheckedObject, selected?: readonly string[], vmi?: UncheckedObject): VmVolumes {
  const shared = new Set(objectsAt(vm.spec, 'template', 'spec', 'domain', 'devices', 'filesystems').map((each) => textAt(each, 'name')));
  const all: VmVolumes = { volumes: [], leftOut: [], unknown: [] };
  const defined = new Set<string>();
  const definitions: string[] = [];
  for (const volume of objectsAt(vm.spec, 'template', 'spec', 'volumes')) {
    const name = textAt(volume, 'name') ?? '';
    defined.add(name);
    const claimName = claimOf(volume);
    const why = shared.has(name) ? FILE_SYSTEM_REASON : reasonOf(volume);
    if (why === DEFINITION_REASON || (why === FILE_SYSTEM_REASON && claimName === undefined)) definitions.push(name);
    else if (why !== undefined) all.leftOut.push({ name, why });
    else if (claimName !== undefined) all.volumes.push({ name, claimName });
  }
  for (const volume of objectsAt(vmi?.spec, 'volumes')) {
    const name = textAt(volume, 'name') ?? '';
    if (!defined.has(name) && claimOf(volume) !== undefined) all.leftOut.push({ name, why: HOTPLUG_REASON });
  }
  return selected === undefined ? { ...all, leftOut: [...all.leftOut, ...stateOf(vm)] } : select(all, selected, definitions);
}

function select({ volumes, leftOut }: VmVolumes, selected: readonly string[], definitions: readonly string[]): VmVolumes {
  const wanted = new Set(selected);
  const without = [...leftOut, ...definitions.map((name) => ({ name, why: DEFINITION_REASON }))];
  const known = new Set([...volumes, ...without].map(({ name }) => name));
  return {
    volumes: volumes.filter(({ name }) => wanted.has(name)),
    leftOut: without.filter(({ name }) => wanted.has(name)),
    unknown: [...wanted].filter((name) => !known.has(name)),
  };
}

/** @returns undefined for a volume that the VM does not define, or that is of no claim */
export function claimOfVolume(vm: UncheckedObject, volumeName: string): string | undefined {
  const found = objectsAt(vm.spec, 'template', 'spec', 'volumes').find((volume) => textAt(volume, 'name') === volumeName);
  return found === undefined ? undefined : claimOf(found);
}

/** A DataVolume and its claim have one name. */
function claimOf(volume: Fields): string | undefined {
  return textAt(volume, 'persistentVolumeClaim', 'claimName') ?? textAt(volume, 'dataVolume', 'name');
}

function reasonOf(volume: Fields): string | undefined {
  if (claimOf(volume) !== undefined) return undefined;
  const kind = Object.keys(volume).find((key) => key !== 'name' && valueAt(volume, key) != null);
  if (kind !== undefined && DEFINITIONS.has(kind)) return DEFINITION_REASON;
  return kind === undefined ? 'names no source' : (REASONS[kind]?.(volume[kind]) ?? `is a ${kind}, which disklift does not support`);
}

/** A claim of KubeVirt's own, which the VM does not list as a volume. It holds files. */
function stateOf(vm: UncheckedObject): LeftOutVolume[] {
  const domain = valueAt(vm.spec, 'template', 'spec', 'domain');
  const persistent = [
    ...(valueAt(domain, 'devices', 'tpm', 'persistent') === true ? ['TPM'] : []),
    ...(valueAt(domain, 'firmware', 'bootloader', 'efi', 'persistent') === true ? ['EFI variables'] : []),
  ];
  if (persistent.length === 0) return [];
  return [{ name: `persistent-state-for-${vm.metadata.name ?? ''}`, why: `holds the state of ${persistent.join(' and ')}, not a disk` }];
}
