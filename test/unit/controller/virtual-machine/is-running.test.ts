import assert from 'node:assert/strict';
import { isRunning } from '../../../../src/controller/virtual-machine/is-running.ts';
import { vmOf } from './vm-objects.ts';

const vmiOf = (phase?: string) => ({ metadata: { name: 'db01' }, status: phase === undefined ? {} : { phase } });
const vm = (runStrategy: string, printableStatus?: string) =>
  vmOf({ spec: { runStrategy }, ...(printableStatus !== undefined && { status: { printableStatus } }) });

describe('isRunning', () => {
  it('is true while an instance exists whose guest has not ended, whatever the VM says', () => {
    for (const phase of [undefined, 'Pending', 'Scheduling', 'Scheduled', 'Running', 'WaitingForSync', 'Unknown'])
      assert.equal(isRunning(vm('Halted', 'Stopped'), vmiOf(phase)), true, phase);
  });

  it('is false for a VM that reads Stopped without an instance, or with one that has ended', () => {
    for (const vmi of [undefined, vmiOf('Succeeded'), vmiOf('Failed')])
      for (const strategy of ['Halted', 'Manual', 'Once']) assert.equal(isRunning(vm(strategy, 'Stopped'), vmi), false, strategy);
    assert.equal(isRunning(vm('RerunOnFailure', 'Stopped'), vmiOf('Succeeded')), false);
  });

  it('is true for a VM that reads Stopped and will be started again at once', () => {
    assert.equal(isRunning(vm('Always', 'Stopped'), vmiOf('Succeeded')), true);
    assert.equal(isRunning(vm('RerunOnFailure', 'Stopped'), vmiOf('Failed')), true);
  });

  it('is true for a VM that starts, stops, migrates, is paused, crashes again and again, or is in an unknown state', () => {
    for (const state of [
      'Starting',
      'Running',
      'Stopping',
      'Migrating',
      'Paused',
      'CrashLoopBackOff',
      'ErrorUnschedulable',
      'Unknown',
      'Novel',
    ])
      assert.equal(isRunning(vm('Halted', state), undefined), true, state);
  });

  it('follows the run strategy while the VM has no guest and no state that counts', () => {
    for (const state of [undefined, 'Provisioning', 'WaitingForVolumeBinding', 'ErrorPvcNotFound', 'DataVolumeError'])
      for (const [strategy, expected] of [
        ['Halted', false],
        ['Manual', false],
        ['Always', true],
        ['RerunOnFailure', true],
        ['Once', true],
      ] as const)
        assert.equal(isRunning(vm(strategy, state), undefined), expected, `${strategy} ${state}`);
  });

  it('reads the older field `running`, and takes a VM without either as one that may run', () => {
    assert.equal(isRunning({ metadata: {}, spec: { running: false } }, undefined), false);
    assert.equal(isRunning({ metadata: {}, spec: { running: true } }, undefined), true);
    assert.equal(isRunning({ metadata: {} }, undefined), true);
  });
});
