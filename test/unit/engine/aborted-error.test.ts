import assert from 'node:assert/strict';
import { DiskliftError } from '../../../src/common/errors.ts';
import { abortedError } from '../../../src/engine/attempt-disk.ts';
import { type DiskState, newDiskState } from '../../../src/engine/observer.ts';
import { DEFAULT_OPTIONS } from '../../helpers/image-in-process.ts';

const MIB = 1024 * 1024;
const DEADLINE = new DiskliftError('DeadlineExceeded', 'not done within activeDeadlineSeconds, 60 s');

describe('a deadline', () => {
  const inUse = new DiskliftError('SourceInUse', 'the VM db has it');
  const away = new DiskliftError('DestinationUnreachable', 'connection refused');
  const cases: [Partial<DiskState>, string][] = [
    [{ phase: 'Scanning' }, 'a.img was being scanned'],
    [{ phase: 'Scanning', scannedBytes: 3 * MIB, virtualBytes: 8 * MIB }, 'a.img was being scanned (3 MiB of 8 MiB)'],
    [{ phase: 'Streaming', sentBytes: MIB, imageBytes: 2 * MIB }, 'a.img was being sent (1 MiB of 2 MiB)'],
    [{ phase: 'Verifying' }, 'the destination had not confirmed a.img yet'],
    [{ phase: 'Pending', failure: inUse }, 'a.img waited until the disk is free: the VM db has it'],
    [{ phase: 'Pending', failure: away }, 'a.img waited for another attempt: connection refused'],
    [{ phase: 'Pending' }, 'a.img waited for a slot'],
  ];
  for (const [facts, text] of cases)
    it(`says what it ended: ${text}`, () => {
      const { code, message } = abortedError(AbortSignal.abort(DEADLINE), {
        ...newDiskState({ path: 'a.img', qcow2: DEFAULT_OPTIONS }),
        ...facts,
      });
      assert.deepEqual([code, message], ['DeadlineExceeded', `${DEADLINE.message}: ${text}`]);
    });

  it('alone says that, a cancellation does not', () => {
    const cancelled = new DiskliftError('Cancelled', 'cancelled by spec.cancel');
    const state = newDiskState({ path: 'a.img', qcow2: DEFAULT_OPTIONS });
    assert.equal(abortedError(AbortSignal.abort(cancelled), state), cancelled);
  });
});
