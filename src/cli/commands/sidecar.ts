/** `disklift sidecar`: serves requests as long as it lives. */

import type { Command } from 'commander';
import { SETTINGS, type SettingKey } from '../../config/settings.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { ABANDON_MS, endInTime } from '../end.ts';
import { parseVolumes } from '../options.ts';
import { addSettingOptions, logFormatOf } from '../setting-options.ts';

export interface SidecarFlags extends Partial<Record<SettingKey, unknown>> {
  config?: string;
}

export function addSidecarCommand(program: Command, context: CommandContext): void {
  const command = program.command('sidecar').description('run DiskExport requests as they come; settings: docs/configuration.md');
  addSettingOptions(command, SETTINGS);
  command.action((flags: SidecarFlags) => endInTime(context, () => startSidecar(flags, context), ABANDON_MS));
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
  const config = loadConfig(SETTINGS, { file, flags, readText: settings.text });
  const volumes = parseVolumes(config.volume);
  await runSidecar({ config, volumes, logger: createLogger({ level: config.logLevel, format: logFormatOf(config.logFormat) }), context });
}
