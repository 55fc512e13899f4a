/**
 * Generates the types and the schemas of both resources from their CRDs. The CRD of schedules also gets its copy of the
 * spec of a DiskExport. With --check nothing is written, and a file that is out of date is an error.
 */

import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type JSONSchema, compile as toTypes } from 'json-schema-to-typescript';
import { parse, parseDocument } from 'yaml';
import { reportViolations, type Violation } from './violation.ts';

export const CRD_FILE = 'manifests/crd.yaml';

export const SCHEDULE_CRD_FILE = 'manifests/crd-schedules.yaml';

const originOf = (file: string) => `Generated from ${file} by \`make generate\`: change it there.`;

/** A schema of a CRD: OpenAPI v3, with the extensions of Kubernetes. */
interface CrdSchema {
  title?: string;
  description?: string;
  type?: string;
  properties?: Record<string, CrdSchema>;
  items?: CrdSchema;
  additionalProperties?: CrdSchema;
  required?: string[];
  [keyword: string]: unknown;
}

type Schema = Record<string, unknown>;

/** The schema of the resource's only version. */
export function readCrdSchema(root: string): CrdSchema {
  return schemaOf(parse(readFileSync(path.join(root, CRD_FILE), 'utf8')));
}

function schemaOf(crd: { spec: { versions: { schema: { openAPIV3Schema: CrdSchema } }[] } }): CrdSchema {
  return crd.spec.versions[0]?.schema.openAPIV3Schema ?? {};
}

/** Place of the spec of a DiskExport in the CRD of schedules. */
const TEMPLATE_SPEC = 'spec versions 0 schema openAPIV3Schema properties spec properties exportTemplate properties spec'.split(' ');

const TEMPLATE_DESCRIPTION = 'Spec of each DiskExport, with the fields and the defaults that a DiskExport has.';

interface CrdRule {
  rule: string;
}

/** A rule that compares with the old object is left out: a DiskExport cannot be changed, but its template can. */
function forTemplate(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(forTemplate);
  if (typeof schema !== 'object' || schema === null) return schema;
  return Object.fromEntries(
    Object.entries(schema).flatMap(([keyword, value]) => {
      if (keyword !== 'x-kubernetes-validations') return [[keyword, forTemplate(value)]];
      const rules = (value as CrdRule[]).filter(({ rule }) => !rule.includes('oldSelf'));
      return rules.length === 0 ? [] : [[keyword, rules]];
    }),
  );
}

function scheduleCrd(root: string, exportSpec: CrdSchema): { text: string; schema: CrdSchema } {
  const document = parseDocument(readFileSync(path.join(root, SCHEDULE_CRD_FILE), 'utf8'));
  const spec = { ...(forTemplate(exportSpec) as CrdSchema), description: TEMPLATE_DESCRIPTION };
  document.setIn(TEMPLATE_SPEC, document.createNode(spec, { aliasDuplicateObjects: false }));
  return { text: document.toString({ lineWidth: 0, flowCollectionPadding: false }), schema: schemaOf(document.toJS()) };
}

/** Keywords that JSON Schema expresses in another way, or not at all. */
function isForKubernetesOnly(keyword: string): boolean {
  return keyword.startsWith('x-kubernetes-') || ['format', 'anyOf', 'maxProperties'].includes(keyword);
}

type Adapt = (schema: Schema, crdSchema: CrdSchema) => Schema;

/**
 * @param adapt changes each converted schema, the innermost first
 * @param known schemas that are converted already: an alias in the CRD stays one schema, and becomes one type
 */
function convert(crdSchema: CrdSchema, adapt: Adapt, known = new Map<CrdSchema, Schema>()): Schema {
  const earlier = known.get(crdSchema);
  if (earlier !== undefined) return earlier;
  const { properties, items, additionalProperties, ...rest } = crdSchema;
  const schema: Schema = Object.fromEntries(Object.entries(rest).filter(([keyword]) => !isForKubernetesOnly(keyword)));
  if (crdSchema['x-kubernetes-int-or-string'] === true) schema.type = ['integer', 'string'];
  if (items !== undefined) schema.items = convert(items, adapt, known);
  if (additionalProperties !== undefined) schema.additionalProperties = convert(additionalProperties, adapt, known);
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

/** A type of disk-export.ts in place of a schema with this title. */
type Adopted = 'DiskExportSpec' | 'Condition' | 'ObjectMetadata';

interface TypesFile {
  kind: 'DiskExport' | 'DiskExportSchedule';
  crdFile: string;
  crdSchema: CrdSchema;
  adopted?: readonly Adopted[];
}

async function typesFile({ kind, crdFile, crdSchema, adopted = [] }: TypesFile): Promise<string> {
  const { description, properties: { spec = {}, status = {} } = {} } = crdSchema;
  const adopts = (title: string | undefined) => adopted.some((each) => each === title);
  const adapt: Adapt = (schema, crd) => (adopts(crd.title) ? { tsType: crd.title } : forTypes(schema, crd));
  const schema = {
    title: kind,
    description,
    type: 'object',
    required: ['apiVersion', 'kind', 'metadata', 'spec'],
    additionalProperties: false,
    properties: {
      apiVersion: { enum: ['disklift.dev/v1alpha1'] },
      kind: { enum: [kind] },
      metadata: adopts(METADATA.title) ? { tsType: METADATA.title } : METADATA,
      spec: convert(spec, adapt),
      status: convert(status, adapt),
    },
  };
  const types = await toTypes(schema as JSONSchema, kind, { bannerComment: '', format: false });
  // A comment of one line takes one line.
  const text = types.replace(/\/\*\*\n\s*\* (.*)\n\s*\*\//g, '/** $1 */');
  const imports = adopted.length === 0 ? '' : `import type { ${adopted.join(', ')} } from './disk-export.ts';\n\n`;
  return `/** The ${kind} resource with all defaults filled in. ${originOf(crdFile)} */\n\n${imports}${text}`;
}

interface SchemaFile {
  /** The object in words. */
  what: string;
  crdFile: string;
  /** Name of each schema and its place in the CRD. */
  schemas: Record<string, CrdSchema>;
  /** A schema that has a file of its own, and where its import comes from. */
  shared?: { crdSchema: CrdSchema; name: string; file: string };
}

function schemaFile({ what, crdFile, schemas, shared }: SchemaFile): string {
  const reference = { $ref: 'shared' };
  const adapt: Adapt = (schema, crd) => (crd === shared?.crdSchema ? reference : forValidation(schema));
  const declarations = Object.entries(schemas).map(([name, crdSchema]) => {
    // The API server fills in the status of a new object.
    const { default: _, ...schema } = convert(crdSchema, adapt);
    return `export const ${name}: Schema = ${JSON.stringify(schema).replaceAll(JSON.stringify(reference), shared?.name ?? '')};\n`;
  });
  const imported = shared === undefined ? '' : `import { ${shared.name} } from '${shared.file}';\n`;
  return `/** ${what}. ${originOf(crdFile)} */\n\nimport type { Schema } from './schema.ts';\n${imported}\n${declarations.join('\n')}`;
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
  const schedules = scheduleCrd(root, spec);
  const scheduleSchemas = schedules.schema.properties ?? {};
  const templateSpec = scheduleSchemas.spec?.properties?.exportTemplate?.properties?.spec ?? {};
  const of = (what: string) => `The JSON Schema of ${what}`;
  const files: [string, string][] = [
    ['src/resource/disk-export.ts', await typesFile({ kind: 'DiskExport', crdFile: CRD_FILE, crdSchema })],
    [
      'src/resource/spec-schema.ts',
      schemaFile({ what: of('the spec of a DiskExport'), crdFile: CRD_FILE, schemas: { SPEC_SCHEMA: spec } }),
    ],
    [
      'src/resource/status-schema.ts',
      schemaFile({ what: of('the status of a DiskExport'), crdFile: CRD_FILE, schemas: { STATUS_SCHEMA: status } }),
    ],
    [
      'src/resource/export-schedule.ts',
      await typesFile({
        kind: 'DiskExportSchedule',
        crdFile: SCHEDULE_CRD_FILE,
        crdSchema: schedules.schema,
        adopted: ['Condition', 'DiskExportSpec', 'ObjectMetadata'],
      }),
    ],
    [
      'src/resource/export-schedule-schema.ts',
      schemaFile({
        what: 'The JSON Schemas of the spec and the status of a DiskExportSchedule',
        crdFile: SCHEDULE_CRD_FILE,
        schemas: { SCHEDULE_SPEC_SCHEMA: scheduleSchemas.spec ?? {}, SCHEDULE_STATUS_SCHEMA: scheduleSchemas.status ?? {} },
        shared: { crdSchema: templateSpec, name: 'SPEC_SCHEMA', file: './spec-schema.ts' },
      }),
    ],
  ];
  return new Map([[SCHEDULE_CRD_FILE, schedules.text], ...files.map(([file, text]) => [file, format(file, text)] as const)]);
}

function drift(root: string, files: Map<string, string>): Violation[] {
  return [...files]
    .filter(([file, text]) => readFileSync(path.join(root, file), 'utf8') !== text)
    .map(([where]) => ({ rule: 'generated', where, what: 'is not what the CRDs give; run make generate' }));
}

if (import.meta.main) {
  const root = process.cwd();
  const files = await generateTypes(root);
  if (process.argv.includes('--check')) reportViolations(`generated: ${files.size} files, as the CRDs have it`, drift(root, files));
  else for (const [file, text] of files) writeFileSync(path.join(root, file), text);
}
