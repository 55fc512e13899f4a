/** The file of parts that an administrator adds to every Job of the controller. */

import { parse } from 'yaml';
import { DiskliftError } from '../common/errors.ts';

const SECURITY_CONTEXT_MODES = ['KubeVirt', 'OpenShift'] as const;

export interface JobTemplateFile {
  /** Labels of the Job and its pod. Those that the controller sets override them. */
  labels: Readonly<Record<string, string>>;
  annotations: Readonly<Record<string, string>>;
  nodeSelector: Readonly<Record<string, string>>;
  tolerations: readonly object[];
  priorityClassName: string | undefined;
  /** Environment variables of the container. */
  env: readonly { name: string; [field: string]: unknown }[];
  resources: object;
  imagePullSecrets: readonly object[];
  /** KubeVirt: user and group 107. OpenShift: none, because the namespace's constraint chooses them. */
  securityContext: { mode: (typeof SECURITY_CONTEXT_MODES)[number]; seLinuxLevel: string; seLinuxChangePolicy: string };
}

type Reader<T> = (value: unknown, where: string) => T;

/** Each field with its value when it is absent. */
const FIELDS: { readonly [Key in keyof JobTemplateFile]: { absent: JobTemplateFile[Key]; read: Reader<JobTemplateFile[Key]> } } = {
  labels: { absent: {}, read: readTexts },
  annotations: { absent: {}, read: readTexts },
  nodeSelector: { absent: {}, read: readTexts },
  tolerations: { absent: [], read: readObjects },
  priorityClassName: { absent: undefined, read: readText },
  env: { absent: [], read: (value, where) => readObjects(value, where).map((each, index) => readVariable(each, `${where}[${index}]`)) },
  resources: { absent: {}, read: readObject },
  imagePullSecrets: { absent: [], read: readObjects },
  securityContext: { absent: { mode: 'KubeVirt', seLinuxLevel: '', seLinuxChangePolicy: '' }, read: readSecurityContext },
};

/** A file without any part, such as an empty one. */
export const NO_JOB_TEMPLATE = parseJobTemplate('', () => '');

/**
 * @param readText returns the text of `file`, YAML or JSON
 * @throws DiskliftError `InvalidRequest` that names the file and the field
 */
export function parseJobTemplate(file: string, readText: (file: string) => string): JobTemplateFile {
  let value: unknown;
  try {
    value = parse(readText(file)) ?? {};
  } catch (error) {
    throw new DiskliftError('InvalidRequest', `${file}: ${(error as Error).message.split('\n')[0]}`, error);
  }
  const found = readFields(value, { where: file, allowed: Object.keys(FIELDS) });
  const entries = Object.entries(FIELDS).map(([key, { absent, read }]) => [
    key,
    found[key] === undefined ? absent : read(found[key], `${file}: ${key}`),
  ]);
  return Object.fromEntries(entries);
}

function invalid(where: string, what: string): DiskliftError {
  return new DiskliftError('InvalidRequest', `${where}: ${what}`);
}

function readObject(value: unknown, where: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(where, 'an object is expected');
  return value as Record<string, unknown>;
}

function readFields(value: unknown, { where, allowed }: { where: string; allowed: readonly string[] }): Record<string, unknown> {
  const object = readObject(value, where);
  const unknown = Object.keys(object).find((key) => !allowed.includes(key));
  if (unknown !== undefined) throw invalid(where, `${unknown} is unknown; the fields are ${allowed.join(', ')}`);
  return object;
}

function readText(value: unknown, where: string): string {
  if (typeof value !== 'string') throw invalid(where, 'a text is expected; put numbers and true into quotes');
  return value;
}

function readTexts(value: unknown, where: string): Record<string, string> {
  return Object.fromEntries(Object.entries(readObject(value, where)).map(([key, each]) => [key, readText(each, `${where}.${key}`)]));
}

function readObjects(value: unknown, where: string): Record<string, unknown>[] {
  if (!Array.isArray(value)) throw invalid(where, 'a list is expected');
  return value.map((each, index) => readObject(each, `${where}[${index}]`));
}

function readVariable(value: Record<string, unknown>, where: string): JobTemplateFile['env'][number] {
  return { ...value, name: readText(value.name, `${where}.name`) };
}

function readSecurityContext(value: unknown, where: string): JobTemplateFile['securityContext'] {
  const allowed = ['mode', 'seLinuxLevel', 'seLinuxChangePolicy'];
  const { mode = 'KubeVirt', seLinuxLevel = '', seLinuxChangePolicy = '' } = readFields(value, { where, allowed });
  const known = SECURITY_CONTEXT_MODES.find((each) => each === mode);
  if (known === undefined) throw invalid(`${where}.mode`, `one of ${SECURITY_CONTEXT_MODES.join(', ')} is expected`);
  return {
    mode: known,
    seLinuxLevel: readText(seLinuxLevel, `${where}.seLinuxLevel`),
    seLinuxChangePolicy: readText(seLinuxChangePolicy, `${where}.seLinuxChangePolicy`),
  };
}
