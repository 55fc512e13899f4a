/** `disklift sidecar`: serves requests as long as it lives. */

import { type Command, Option } from 'commander';
import { flagOf, SETTINGS, type Setting, type SettingKey } from '../../config/settings.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { ABANDON_MS, endInTime } from '../end.ts';
import { parseVolumes } from '../options.ts';

export interface SidecarFlags extends Partial<Record<SettingKey, unknown>> {
  config?: string;
}

export function addSidecarCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('sidecar')
    .description('run DiskExport requests as they come; settings: docs/configuration.md')
    .option('--config <file>', 'a file of settings, YAML or JSON; the environment and flags are stronger');
  for (const [key, setting] of Object.entries(SETTINGS as Record<string, Setting>)) command.addOption(optionOf(key, setting));
  command.action((flags: SidecarFlags) => endInTime(context, () => startSidecar(flags, context), ABANDON_MS));
}

function optionOf(key: string, { text, value, format, isInternal = false }: Setting): Option {
  const option = new Option(value === '' ? flagOf(key) : `${flagOf(key)} <${value.toLowerCase()}>`, text).hideHelp(isInternal);
  return format === 'list' ? option.argParser((each: string, earlier: string[] | undefined) => [...(earlier ?? []), each]) : option;
}

/**
 * @throws DiskliftError `InvalidRequest` for settings that contradict each other; with `once`, why the export has not
 * succeeded
 */
export async function startSidecar({ config: file, ...flags }: SidecarFlags, context: CommandContext): Promise<void> {
  const [{ readAhead }, { createLogger }, { loadConfig }, { runSidecar }] = await Promise.all([
    import('../../common/await-storage.ts'),
    import('../../common/logger.ts'),
    import('../../config/load-config.ts'),
    import('../../wiring/sidecar.ts'),
  ]);
  const settings = await readAhead(file === undefined ? [] : [file], context);
  const config = loadConfig({ file, flags, readText: settings.text });
  const volumes = parseVolumes(config.volume);
  const format = config.logFormat === 'auto' ? (process.stderr.isTTY ? 'text' : 'json') : config.logFormat === 'text' ? 'text' : 'json';
  await runSidecar({ config, volumes, logger: createLogger({ level: config.logLevel, format }), context });
}
