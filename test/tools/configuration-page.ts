/** docs/configuration.md, made from the table of settings. */

import { CONTROLLER_SETTINGS } from '../../src/config/controller-settings.ts';
import { environmentVariableOf, flagOf, SETTINGS, type Setting } from '../../src/config/settings.ts';
import { markdownTable } from './markdown-table.ts';

function defaultOf({ default: value, absent, format }: Setting): string {
  if (format === 'switch') return value === true ? 'on' : 'off';
  if (value === '' || (Array.isArray(value) && value.length === 0)) return absent ?? 'none';
  return `\`${String(value)}\``;
}

function cellsOf([key, setting]: [string, Setting]): string[] {
  const { text, value, format } = setting;
  const allowed = Array.isArray(format)
    ? ` One of ${format
        .filter((each) => each !== '')
        .map((each) => `\`${each}\``)
        .join(', ')}.`
    : '';
  const flag = value === '' ? flagOf(key) : `${flagOf(key)} ${value}`;
  return [`\`${key}\``, `\`${flag}\``, `\`${environmentVariableOf(key)}\``, defaultOf(setting), `${text}${allowed}`];
}

function tableOf(settings: Readonly<Record<string, Setting>>): string[] {
  return markdownTable([['key', 'flag', 'environment', 'default', 'meaning'], ...Object.entries(settings).map(cellsOf)]);
}

export function configurationPage(): string {
  return [
    '# Configuration of the sidecar and of the controller',
    '',
    'Generated from src/config by `make generate`. A setting comes from a flag; else from the environment; else from the file of',
    '`--config FILE` (YAML or JSON, with the keys below); else it has its default. In the environment, commas separate the values of a list.',
    '',
    '## Sidecar',
    '',
    ...tableOf(SETTINGS),
    '',
    'HTTP and S3 exports use the proxies of `https_proxy`, `http_proxy` and `no_proxy` (or `HTTPS_PROXY` and `NO_PROXY`).',
    '',
    '## Controller',
    '',
    ...tableOf(CONTROLLER_SETTINGS),
    '',
  ].join('\n');
}
