/**
 * Generates the types and the schemas of the DiskExport resource from manifests/crd.yaml. With --check it writes
 * nothing and fails if a file is out of date.
 */

import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type JSONSchema, compile as toTypes } from 'json-schema-to-typescript';
import { parse } from 'yaml';
import { reportViolations, type Violation } from './violation.ts';

export const CRD_FILE = 'manifests/crd.yaml';

const ORIGIN = `Generated from ${CRD_FILE} by \`make generate\`: change it there.`;

/** A schema of a CRD: OpenAPI v3, with the extensions of Kubernetes. */
interface CrdSchema {
  title?: string;
  description?: string;
  type?: string;
  properties?: Record<string, CrdSchema>;
  items?: CrdSchema;
  required?: string[];
  [keyword: string]: unknown;
}

type Schema = Record<string, unknown>;

/** The schema of the resource's only version. */
export function readCrdSchema(root: string): CrdSchema {
  const crd = parse(readFileSync(path.join(root, CRD_FILE), 'utf8'));
  return crd.spec.versions[0].schema.openAPIV3Schema;
}

/** Keywords that JSON Schema expresses in another way, or not at all. */
function isForKubernetesOnly(keyword: string): boolean {
  return keyword.startsWith('x-kubernetes-') || keyword === 'format' || keyword === 'anyOf';
}

type Adapt = (schema: Schema, crdSchema: CrdSchema) => Schema;

/**
 * @param adapt changes each converted schema, the innermost first
 * @param known schemas that are converted already: an alias in the CRD stays one schema, and becomes one type
 */
function convert(crdSchema: CrdSchema, adapt: Adapt, known = new Map<CrdSchema, Schema>()): Schema {
  const earlier = known.get(crdSchema);
  if (earlier !== undefined) return earlier;
  const { properties, items, ...rest } = crdSchema;
  const schema: Schema = Object.fromEntries(Object.entries(rest).filter(([keyword]) => !isForKubernetesOnly(keyword)));
  if (crdSchema['x-kubernetes-int-or-string'] === true) schema.type = ['integer', 'string'];
  if (items !== undefined) schema.items = convert(items, adapt, known);
  if (properties !== undefined) {
    schema.properties = Object.fromEntries(Object.entries(properties).map(([name, property]) => [name, convert(property, adapt, known)]));
    schema.additionalProperties = false;
  }
  const adapted = adapt(schema, crdSchema);
  known.set(crdSchema, adapted);
  return adapted;
}

/** Defaults are filled in when an object is read, so a field with a default is always present. */
function forTypes({ minItems: _, maxItems: __, ...schema }: Schema, { required = [], properties = {} }: CrdSchema): Schema {
  const filledIn = Object.keys(properties).filter((name) => properties[name]?.default !== undefined);
  return { ...schema, required: [...new Set([...required, ...filledIn])] };
}

function forValidation({ title: _, description: __, ...schema }: Schema): Schema {
  return schema;
}

/** The CRD does not describe metadata, which is the same for all resources. */
const METADATA = {
  title: 'ObjectMetadata',
  type: 'object',
  required: ['name', 'namespace', 'uid'],
  additionalProperties: true,
  properties: {
    name: { type: 'string' },
    namespace: { type: 'string' },
    uid: { type: 'string' },
    creationTimestamp: {
      type: 'string',
      format: 'date-time',
      description: 'The API server writes it; for a request of a file, the time at which it was accepted.',
    },
    generation: { type: 'integer', description: 'Grows with each change of the spec.' },
    labels: { type: 'object', additionalProperties: { type: 'string' } },
    annotations: { type: 'object', additionalProperties: { type: 'string' } },
  },
};

async function typesFile({ description, properties: { spec = {}, status = {} } = {} }: CrdSchema): Promise<string> {
  const schema = {
    title: 'DiskExport',
    description,
    type: 'object',
    required: ['apiVersion', 'kind', 'metadata', 'spec'],
    additionalProperties: false,
    properties: {
      apiVersion: { enum: ['disklift.dev/v1alpha1'] },
      kind: { enum: ['DiskExport'] },
      metadata: METADATA,
      spec: convert(spec, forTypes),
      status: convert(status, forTypes),
    },
  };
  const types = await toTypes(schema as JSONSchema, 'DiskExport', { bannerComment: '', format: false });
  // A comment of one line takes one line.
  const text = types.replace(/\/\*\*\n\s*\* (.*)\n\s*\*\//g, '/** $1 */');
  return `/** The DiskExport resource with all defaults filled in. ${ORIGIN} */\n\n${text}`;
}

function schemaFile(what: string, name: string, crdSchema: CrdSchema): string {
  // The API server fills in the status of a new object.
  const { default: _, ...schema } = convert(crdSchema, forValidation);
  return `/** The JSON Schema of ${what} of a DiskExport. ${ORIGIN} */\n\nimport type { Schema } from './schema.ts';\n\nexport const ${name}: Schema = ${JSON.stringify(schema)};\n`;
}

function format(file: string, text: string): string {
  const { status, stdout, stderr } = spawnSync('biome', ['format', `--stdin-file-path=${file}`], { input: text, encoding: 'utf8' });
  if (status !== 0) throw new Error(`biome: ${stderr}`);
  return stdout;
}

/** Each generated file, relative to `root`, with its content. */
export async function generateTypes(root: string): Promise<Map<string, string>> {
  const crdSchema = readCrdSchema(root);
  const { spec = {}, status = {} } = crdSchema.properties ?? {};
  const files: [string, string][] = [
    ['src/resource/disk-export.ts', await typesFile(crdSchema)],
    ['src/resource/spec-schema.ts', schemaFile('the spec', 'SPEC_SCHEMA', spec)],
    ['src/resource/status-schema.ts', schemaFile('the status', 'STATUS_SCHEMA', status)],
  ];
  return new Map(files.map(([file, text]) => [file, format(file, text)]));
}

function drift(root: string, files: Map<string, string>): Violation[] {
  return [...files]
    .filter(([file, text]) => readFileSync(path.join(root, file), 'utf8') !== text)
    .map(([where]) => ({ rule: 'generated', where, what: `is not what ${CRD_FILE} gives; run make generate` }));
}

if (import.meta.main) {
  const root = process.cwd();
  const files = await generateTypes(root);
  if (process.argv.includes('--check')) reportViolations(`generated: ${files.size} files, as ${CRD_FILE} has it`, drift(root, files));
  else for (const [file, text] of files) writeFileSync(path.join(root, file), text);
}
