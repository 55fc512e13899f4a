/** `disklift controller`: makes a Job for each DiskExport that no sidecar serves. */

import type { Command } from 'commander';
import { CONTROLLER_SETTINGS } from '../../config/controller-settings.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { ABANDON_MS, endInTime } from '../end.ts';
import { addSettingOptions, logFormatOf } from '../setting-options.ts';

interface ControllerFlags extends Partial<Record<keyof typeof CONTROLLER_SETTINGS, unknown>> {
  config?: string;
}

export function addControllerCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('controller')
    .description('run DiskExports of any claim, snapshot or virtual machine, each in a Job; settings: docs/configuration.md');
  addSettingOptions(command, CONTROLLER_SETTINGS);
  command.action((flags: ControllerFlags) => endInTime(context, () => startController(flags, context), ABANDON_MS));
}

/** @throws DiskliftError `InvalidRequest` for settings that contradict each other; why the leader failed */
async function startController({ config: file, ...flags }: ControllerFlags, context: CommandContext): Promise<void> {
  const [{ readAhead }, { createLogger }, { loadConfig }, { NO_JOB_TEMPLATE, parseJobTemplate }, { runControllerProcess }] =
    await Promise.all([
      import('../../common/await-storage.ts'),
      import('../../common/logger.ts'),
      import('../../config/load-config.ts'),
      import('../../config/job-template.ts'),
      import('../../wiring/controller-process.ts'),
    ]);
  const settings = await readAhead(file === undefined ? [] : [file], context);
  const config = loadConfig(CONTROLLER_SETTINGS, { file, flags, readText: settings.text });
  const { jobTemplateFile } = config;
  const template =
    jobTemplateFile === '' ? NO_JOB_TEMPLATE : parseJobTemplate(jobTemplateFile, (await readAhead([jobTemplateFile], context)).text);
  const logger = createLogger({ level: config.logLevel, format: logFormatOf(config.logFormat) });
  await runControllerProcess({ config, template, logger, context });
}
