/** docs/configuration.md, made from the table of settings. */

import { environmentVariableOf, flagOf, SETTINGS, type Setting } from '../../src/config/settings.ts';
import { markdownTable } from './markdown-table.ts';

function defaultOf({ default: value, absent, format }: Setting): string {
  if (format === 'switch') return value === true ? 'on' : 'off';
  if (value === '' || (Array.isArray(value) && value.length === 0)) return absent ?? 'none';
  return `\`${String(value)}\``;
}

function cellsOf([key, setting]: [string, Setting]): string[] {
  const { text, value, format } = setting;
  const allowed = Array.isArray(format) ? ` One of ${format.map((each) => `\`${each}\``).join(', ')}.` : '';
  const flag = value === '' ? flagOf(key) : `${flagOf(key)} ${value}`;
  return [`\`${key}\``, `\`${flag}\``, `\`${environmentVariableOf(key)}\``, defaultOf(setting), `${text}${allowed}`];
}

export function configurationPage(): string {
  return [
    '# Configuration of the sidecar',
    '',
    'Made from src/config/settings.ts by `make generate`. What stands later wins: the default, the file that `--config FILE` names',
    '(YAML or JSON, by the keys below), the environment, flags. Of lists, values in the environment are separated by commas.',
    '',
    ...markdownTable([
      ['key', 'flag', 'environment', 'default', 'what it is'],
      ...Object.entries(SETTINGS as Record<string, Setting>).map(cellsOf),
    ]),
    '',
    'The proxies of `https_proxy`, `http_proxy` and `no_proxy` (or `HTTPS_PROXY` and `NO_PROXY`) are honoured by HTTP exports.',
    '',
  ].join('\n');
}
