/** Whether a guest may write to the disks of a VirtualMachine. */

import { textAt, type UncheckedObject, valueAt } from './read-fields.ts';

/** Phases in which the guest of a VirtualMachineInstance has ended for good. */
const ENDED: ReadonlySet<string | undefined> = new Set(['Succeeded', 'Failed']);

/** States of a VM without a guest that say nothing about whether one is about to start. */
const NO_GUEST_YET: ReadonlySet<string | undefined> = new Set([
  undefined,
  'Provisioning',
  'WaitingForVolumeBinding',
  'ErrorPvcNotFound',
  'DataVolumeError',
]);

/**
 * True in every state that is not known to be without a guest: a guest that starts, stops, migrates, is paused, or is
 * about to be started again.
 *
 * @param vmi the instance of the same name; undefined when no such instance exists
 */
export function isRunning(vm: UncheckedObject, vmi: UncheckedObject | undefined): boolean {
  const phase = textAt(vmi?.status, 'phase');
  if (vmi !== undefined && !ENDED.has(phase)) return true;
  const strategy = runStrategyOf(vm);
  const state = textAt(vm.status, 'printableStatus');
  // A VM reads Stopped for a moment between the end of a guest and its next start.
  if (state === 'Stopped') return strategy === 'Always' || (strategy === 'RerunOnFailure' && phase === 'Failed');
  return !(NO_GUEST_YET.has(state) && (strategy === 'Halted' || strategy === 'Manual'));
}

/** `running` is the older form of `runStrategy`. */
function runStrategyOf({ spec }: UncheckedObject): string | undefined {
  const running = valueAt(spec, 'running');
  if (typeof running === 'boolean') return running ? 'Always' : 'Halted';
  return textAt(spec, 'runStrategy');
}
