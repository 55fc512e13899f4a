/**
 * vm.yaml: the definition of a VM and of its claims, beside the images of its disks. A person applies it to restore
 * them.
 *
 * - Fields that a machine sets are left out. Identity that the guest sees (firmware UUID, MAC addresses) stays.
 * - The VM has no namespace, so that `kubectl apply -n` chooses one.
 * - The claims come first and are empty: the images are written to them before the VM starts.
 * - The same objects give the same bytes.
 */

import { Document, visit } from 'yaml';
import { type Fields, isFields } from '../../resource/schema.ts';
import { objectsAt, textAt, type UncheckedObject, valueAt } from './read-fields.ts';

/** Annotations and labels that a machine sets; a trailing `/` stands for a whole prefix. */
const MACHINE_MADE = [
  'kubectl.kubernetes.io/last-applied-configuration',
  'kubevirt.io/latest-observed-api-version',
  'kubevirt.io/storage-observed-api-version',
  'kubevirt.io/vm-generation',
  'kubevirt.io/restore-run-strategy',
  'kubevirt.io/created-by',
  'kubevirt.io/vm-pool-revision-name',
  'restore.kubevirt.io/',
  'kubemacpool.io/',
  'pv.kubernetes.io/',
  'volume.kubernetes.io/',
  'volume.beta.kubernetes.io/',
  'cdi.kubevirt.io/',
] as const;

/** Labels that CDI gives to every claim it makes, with its values: a user may use the same keys. */
const CDI_LABELS: Readonly<Record<string, string>> = {
  app: 'containerized-data-importer',
  'app.kubernetes.io/component': 'storage',
  'app.kubernetes.io/managed-by': 'cdi-controller',
};

/** CDI does not import into a claim that has it with the name of the DataVolume. KubeVirt's own restore sets it too. */
const POPULATED_FOR = 'cdi.kubevirt.io/storage.populatedFor';
/** Says that the claim holds a disk image and no archive. */
const CONTENT_TYPE = 'cdi.kubevirt.io/storage.contentType';

/** Fields of a claim that bind it to a volume, or would fill it with something else than the image. */
const BINDING_FIELDS: ReadonlySet<string> = new Set(['volumeName', 'dataSource', 'dataSourceRef']);

/** @param claims those of the VM's volumes that the export reads */
export function renderVmManifest(vm: UncheckedObject, claims: readonly UncheckedObject[]): string {
  const { name = '', namespace = '' } = vm.metadata;
  const header = [
    `# VirtualMachine ${name} of namespace ${namespace}, with the claims of its disks.`,
    '# To restore: create the claims, write the images to them, then create the VM, which may start at once.',
  ];
  const templates = new Set(objectsAt(vm.spec, 'dataVolumeTemplates').map((template) => textAt(template, 'metadata', 'name')));
  const documents = [
    ...claims.toSorted((a, b) => order(a.metadata.name, b.metadata.name)).map((claim) => claimManifest(claim, templates)),
    vmManifest(vm),
  ];
  return `${header.join('\n')}\n${documents.map((document) => `---\n${toYaml(document)}`).join('')}`;
}

/**
 * Quotes for readers of YAML 1.1 and 1.2, and for kubectl, which reads a mixture: `on` is a boolean in the first, and
 * `0o17` is a number in the second.
 */
function toYaml(value: object): string {
  const document = new Document(value, { version: '1.1', sortMapEntries: true, aliasDuplicateObjects: false });
  visit(document, {
    Scalar(_key, scalar) {
      if (typeof scalar.value === 'string' && /^[^A-Za-z\n][^\n]*$/.test(scalar.value)) scalar.type = 'QUOTE_DOUBLE';
    },
  });
  return document.toString({ lineWidth: 0 });
}

function order(a = '', b = ''): number {
  return a < b ? -1 : Number(a > b);
}

function vmManifest({ metadata, spec }: UncheckedObject): object {
  const fields = isFields(spec) ? { ...spec } : {};
  // The revision belongs to the VM, or to a snapshot, and is deleted with it. KubeVirt takes the current one instead.
  for (const field of ['instancetype', 'preference']) if (isFields(fields[field])) fields[field] = without(fields[field], ['revisionName']);
  if (isFields(fields.template)) fields.template = withoutEmptyTime(fields.template);
  if (fields.dataVolumeTemplates !== undefined)
    fields.dataVolumeTemplates = objectsAt(fields, 'dataVolumeTemplates').map((template) =>
      without(withoutEmptyTime(template), ['status']),
    );
  return { apiVersion: 'kubevirt.io/v1', kind: 'VirtualMachine', metadata: metadataOf(metadata), spec: fields };
}

function claimManifest({ metadata, spec, status }: UncheckedObject, templates: ReadonlySet<string | undefined>): object {
  const contentType = metadata.annotations?.[CONTENT_TYPE];
  const annotations = {
    ...(contentType !== undefined && { [CONTENT_TYPE]: contentType }),
    ...(metadata.name !== undefined && templates.has(metadata.name) && { [POPULATED_FOR]: metadata.name }),
  };
  const fields = without(isFields(spec) ? spec : {}, [...BINDING_FIELDS]);
  // The disk has the size that the volume got, which may be more than the claim requested.
  const capacity = textAt(status, 'capacity', 'storage');
  if (capacity !== undefined) {
    const requests = valueAt(fields, 'resources', 'requests');
    fields.resources = {
      ...(isFields(fields.resources) && fields.resources),
      requests: { ...(isFields(requests) && requests), storage: capacity },
    };
  }
  return { apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: metadataOf(metadata, annotations), spec: fields };
}

function metadataOf({ name, labels, annotations }: UncheckedObject['metadata'], further: Record<string, string> = {}): object {
  const madeLabels = userMade(Object.entries(labels ?? {}).filter(([key, value]) => CDI_LABELS[key] !== value));
  const madeAnnotations = { ...userMade(Object.entries(annotations ?? {})), ...further };
  return {
    name,
    ...(Object.keys(madeLabels).length > 0 && { labels: madeLabels }),
    ...(Object.keys(madeAnnotations).length > 0 && { annotations: madeAnnotations }),
  };
}

function userMade(entries: readonly (readonly [key: string, value: string])[]): Record<string, string> {
  const isMachineMade = (key: string) => MACHINE_MADE.some((made) => (made.endsWith('/') ? key.startsWith(made) : key === made));
  return Object.fromEntries(entries.filter(([key]) => !isMachineMade(key)));
}

function without(fields: Fields, names: readonly string[]): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));
}

/** Go writes `creationTimestamp: null` in every template. */
function withoutEmptyTime(template: Fields): Fields {
  return isFields(template.metadata) ? { ...template, metadata: without(template.metadata, ['creationTimestamp']) } : template;
}
