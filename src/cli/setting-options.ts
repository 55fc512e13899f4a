/** Options of the commands that a table of settings declares. */

import { type Command, Option } from 'commander';
import type { LoggerOptions } from '../common/logger.ts';
import { flagOf, type Setting } from '../config/settings.ts';

/** Adds `--config` and a flag for each setting. */
export function addSettingOptions(command: Command, settings: Readonly<Record<string, Setting>>): void {
  command.option('--config <file>', 'a file of settings, YAML or JSON; the environment and flags are stronger');
  for (const [key, setting] of Object.entries(settings)) command.addOption(optionOf(key, setting));
}

function optionOf(key: string, { text, value, format, isInternal = false }: Setting): Option {
  const option = new Option(value === '' ? flagOf(key) : `${flagOf(key)} <${value.toLowerCase()}>`, text).hideHelp(isInternal);
  return format === 'list' ? option.argParser((each: string, earlier: string[] | undefined) => [...(earlier ?? []), each]) : option;
}

/** @param setting `auto`, `text` or `json` */
export function logFormatOf(setting: string): LoggerOptions['format'] {
  if (setting === 'auto') return process.stderr.isTTY ? 'text' : 'json';
  return setting === 'text' ? 'text' : 'json';
}
