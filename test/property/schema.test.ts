import assert from 'node:assert/strict';
import { Ajv, type ErrorObject } from 'ajv';
import fc from 'fast-check';
import { type Schema, schemaErrors } from '../../src/resource/schema.ts';
import { SPEC_SCHEMA } from '../../src/resource/spec-schema.ts';
import { STATUS_SCHEMA } from '../../src/resource/status-schema.ts';
import { createRandom, SEED, SEED_TEXT } from '../helpers/seed.ts';

type Fields = Record<string, unknown>;

/** Values that are nearly right or of another type, for any field. */
const MISFITS: readonly unknown[] = [
  ...[null, true, false, 0, -1, 1, 1.5, 2, 3, 65_536, 2 ** 60, Number.NaN],
  ...['', 'a', 'A-b', '64Ki', '512', 'PUT', 'Auto', 'é', '😀'.repeat(4), '😀'.repeat(127), 'x'.repeat(300), 'x'.repeat(5000), 'a\nb'],
  ...[[], ['a'], [{}], [null], {}, { name: 'a' }, { name: 'a', key: 'b' }, { url: 'http://a', urlSecretRef: { name: 'a', key: 'k' } }],
];
const NAMES = ['name', 'key', 'url', 'http', 's3', 'tcp', 'constructor', '__proto__', 'toString', 'a/b', 'a~b', '7', ''];

/**
 * A value that conforms to `schema` except for rare patterns. It is at the limits of the schema, and seldom one beyond.
 */
function example(schema: Schema, random: () => number): unknown {
  const { type, items, minimum = 1, maximum = 512, minLength = 1, maxLength = 3, minItems = 1, maxItems = 2, enum: allowed } = schema;
  if (schema.default !== undefined && random() < 0.5) return schema.default;
  if (allowed !== undefined) return allowed[Math.floor(random() * allowed.length)];
  const beyond = random() < 0.03 ? 1 : 0;
  const limit = (least: number, most: number) => (random() < 0.9 ? least - beyond : most + beyond);
  switch ([type].flat()[0]) {
    case 'object':
      return exampleObject(schema, random);
    case 'array':
      return Array.from({ length: limit(minItems, maxItems) }, () => (items === undefined ? 1 : example(items, random)));
    case 'integer':
      return limit(minimum, maximum);
    case 'boolean':
      return random() < 0.5;
    default:
      return 'a'.repeat(limit(minLength, maxLength));
  }
}

function exampleObject({ properties = {}, required = [] }: Schema, random: () => number): Fields {
  const names = Object.keys(properties).filter((name) => required.includes(name) || random() < 0.5);
  return Object.fromEntries(names.map((name) => [name, example(properties[name] as Schema, random)]));
}

/** Changes one field of `value` or of an object within it. */
function spoil(value: unknown, random: () => number): unknown {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  if (typeof value !== 'object' || value === null || random() < 0.1) return structuredClone(pick(MISFITS));
  const names = Object.keys(value);
  const name = random() < 0.15 || names.length === 0 ? pick(NAMES) : pick(names);
  if (Array.isArray(value))
    return random() < 0.1 ? Array(70).fill(value[0]) : value.map((item, index) => (index === Number(name) ? spoil(item, random) : item));
  const { [name]: old, ...others } = value as Fields;
  if (random() < 0.2) return others;
  return Object.assign(Object.fromEntries(Object.entries(others)), { [name]: spoil(old, random) });
}

/** An error of Ajv, in our notation. */
function inOurWords({ keyword, instancePath, params, message }: ErrorObject): Fields {
  const field = `spec${instancePath.replace(/\/(\d+)(?=\/|$)/g, '[$1]').replaceAll('/', '.')}`;
  switch (keyword) {
    case 'additionalProperties':
      return { keyword, field: `${field}.${params.additionalProperty}`, message: 'is no known field' };
    case 'required':
      return { keyword, field: `${field}.${params.missingProperty}`, message: 'is required' };
    case 'enum':
      return { keyword, field, message: `must be one of ${params.allowedValues.join(', ')}` };
    default:
      return { keyword, field, message };
  }
}

describe('schemaErrors', () => {
  for (const [what, schema] of Object.entries({ spec: SPEC_SCHEMA, status: STATUS_SCHEMA }))
    it(`finds the same errors in a ${what} as Ajv, and fills in the same defaults ${SEED_TEXT}`, () => {
      const ajv = new Ajv({
        strict: true,
        strictRequired: false,
        allowUnionTypes: true,
        useDefaults: true,
        allErrors: true,
        verbose: true,
      });
      const validate = ajv.compile(schema);
      let valid = 0;
      fc.assert(
        fc.property(fc.integer(), fc.nat({ max: 3 }), (seed, changes) => {
          const random = createRandom(seed);
          let value = example(schema, random);
          for (let left = changes; left > 0; left -= 1) value = spoil(value, random);
          const [ours, theirs] = [structuredClone(value), structuredClone(value)];
          if (validate(theirs)) valid += 1;
          const errors = validate.errors ?? [];
          assert.deepEqual([...schemaErrors(ours, schema, 'spec')], errors.map(inOurWords));
          assert.deepEqual(ours, theirs);
        }),
        { seed: SEED, numRuns: 2000 },
      );
      assert.ok(valid > 100, `${valid} of the values are valid`);
    });
});
