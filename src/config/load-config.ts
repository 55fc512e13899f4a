/** Settings from defaults, a file, the environment and flags. A later source overrides an earlier one. */

import { readFileSync } from 'node:fs';
import convict from 'convict';
import { parse } from 'yaml';
import { DiskliftError } from '../common/errors.ts';
import { environmentVariableOf, type SETTINGS, type Setting } from './settings.ts';

type ValueOf<D> = D extends readonly unknown[] ? readonly string[] : D extends number ? number : D extends boolean ? boolean : string;

type Settings = Readonly<Record<string, Setting>>;

/** The values of a table of settings. */
export type ConfigOf<S extends Settings> = { readonly [Key in keyof S]: ValueOf<S[Key]['default']> };

/** Settings of the sidecar. */
export type Config = ConfigOf<typeof SETTINGS>;

export interface ConfigInput<Key extends string = string> {
  /** YAML or JSON with settings by their keys. */
  file?: string | undefined;
  /** By key, as the user gave them. */
  flags: Readonly<Partial<Record<Key, unknown>>>;
  /** Default: the environment of the process. */
  environment?: Readonly<Record<string, string | undefined>>;
  /** Returns the text of `file`. Default: reads it from the disk. */
  readText?: (file: string) => string;
}

/** @throws DiskliftError `InvalidRequest` that names the setting */
export function loadConfig<S extends Settings>(settings: S, input: ConfigInput<Extract<keyof S, string>>): ConfigOf<S> {
  const { file, flags, environment = process.env, readText = readFile } = input;
  const schema = Object.fromEntries(
    Object.entries(settings).map(([key, setting]) => [
      key,
      { doc: setting.text, default: setting.default, format: formatOf(setting), env: environmentVariableOf(key) },
    ]),
  );
  const config = convict(schema as convict.Schema<Record<string, unknown>>, { args: [], env: { ...environment } as NodeJS.ProcessEnv });
  try {
    const inFile = file === undefined ? {} : readSettings(file, readText);
    // In convict the environment overrides loaded values. Flags override both, because they are set last.
    config.load(inFile);
    for (const [key, value] of Object.entries(flags)) if (value !== undefined) config.set(key, value);
    config.validate({ allowed: 'strict' });
  } catch (error) {
    if (error instanceof DiskliftError) throw error;
    throw new DiskliftError('InvalidRequest', `configuration: ${(error as Error).message.trim().replaceAll('\n', '; ')}`, error);
  }
  return config.getProperties() as ConfigOf<S>;
}

function formatOf({ format }: Setting): unknown {
  if (format === 'list') return LIST;
  if (format === 'switch') return Boolean;
  if (format === 'seconds' || format === 'natural') return 'nat';
  if (format === 'count') return COUNT;
  return format === 'text' ? String : format;
}

/** At least one. */
const COUNT = 'disklift-count';

convict.addFormat({
  name: COUNT,
  validate(value: unknown) {
    if (!Number.isSafeInteger(value) || (value as number) < 1) throw new Error('must be a whole number of 1 or more');
  },
  coerce: (value: unknown) => (typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value),
});

/** Several values: an array in a file, separated by commas in the environment. */
const LIST = 'disklift-list';

convict.addFormat({
  name: LIST,
  validate(value: unknown) {
    if (!Array.isArray(value) || value.some((each) => typeof each !== 'string')) throw new Error('must be a list of texts');
  },
  coerce: (value: unknown) =>
    typeof value === 'string'
      ? value
          .split(',')
          .map((each) => each.trim())
          .filter((each) => each !== '')
      : value,
});

const readFile = (file: string) => readFileSync(file, 'utf8');

function readSettings(file: string, readText: (file: string) => string): object {
  let value: unknown;
  try {
    value = parse(readText(file));
  } catch (error) {
    throw new DiskliftError('InvalidRequest', `${file}: ${(error as Error).message.split('\n')[0]}`, error);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new DiskliftError('InvalidRequest', `${file}: settings are expected, each as "key: value"`);
  // convict treats the members of an object as nested settings, and ignores an empty object without an error.
  for (const [key, each] of Object.entries(value))
    if (typeof each === 'object' && !Array.isArray(each))
      throw new DiskliftError('InvalidRequest', `${file}: ${key}: a value or a list is expected`);
  return value;
}
