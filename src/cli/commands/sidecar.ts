/** `disklift sidecar`: runs requests as they come, for as long as it lives. */

import { type Command, Option } from 'commander';
import { flagOf, SETTINGS, type Setting } from '../../config/settings.ts';
import type { CommandContext } from '../../wiring/context.ts';
import type { SidecarFlags } from '../actions/run-sidecar.ts';
import { ABANDON_MS, endInTime } from '../end-in-time.ts';

export function addSidecarCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('sidecar')
    .description('run DiskExport requests as they come; settings: docs/configuration.md')
    .option('--config <file>', 'a file of settings, YAML or JSON; the environment and flags are stronger');
  for (const [key, setting] of Object.entries(SETTINGS as Record<string, Setting>)) command.addOption(optionOf(key, setting));
  command.action((flags: SidecarFlags) =>
    endInTime(
      context,
      async () => {
        const { runSidecar } = await import('../actions/run-sidecar.ts');
        await runSidecar(flags, context);
      },
      ABANDON_MS,
    ),
  );
}

function optionOf(key: string, { text, value, format }: Setting): Option {
  const option = new Option(value === '' ? flagOf(key) : `${flagOf(key)} <${value.toLowerCase()}>`, text);
  return format === 'list' ? option.argParser((each: string, earlier: string[] | undefined) => [...(earlier ?? []), each]) : option;
}
