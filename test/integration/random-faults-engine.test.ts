/**
 * A request ends with a true result although random calls around the engine fail or hang: storage, store of requests,
 * destination. The network has its own storm (random-faults.test.ts).
 */

import assert from 'node:assert/strict';
import { DiskliftError, type ErrorCode } from '../../src/common/errors.ts';
import { createEnginePorts, untilFinished } from '../helpers/engine-ports.ts';
import { createRandom, SEED, SEED_TEXT } from '../helpers/seed.ts';

const EXPORTS = 300;
/** Number of concurrent exports; most of them only wait. */
const AT_ONCE = 30;

/** Errors of each call in practice. `release` and `recordEvent` never fail by contract, but are tested too. */
const FAILURES: Readonly<Record<string, readonly ErrorCode[]>> = {
  plan: ['SourceNotFound', 'SourceReadError'],
  open: ['SourceReadError', 'SourcePermissionDenied'],
  identity: ['SourceReadError'],
  extents: ['SourceReadError'],
  read: ['SourceReadError', 'SourceChanged'],
  createTarget: ['DestinationUnreachable', 'CredentialsInvalid'],
  send: ['DestinationUnreachable', 'DestinationRejected'],
  commit: ['DestinationUnreachable', 'ChecksumMismatch'],
  abandon: ['DestinationUnreachable'],
  guard: ['StoreRefused', 'StoreUnavailable'],
  unguard: ['StoreRefused', 'StoreUnavailable'],
  writeStatus: ['StoreRefused', 'StoreUnavailable'],
  get: ['StoreUnavailable'],
  claim: ['StoreUnavailable', 'StoreRefused'],
  assertHeld: ['ExecutorLost'],
  release: ['StoreUnavailable'],
  recordEvent: ['StoreRefused'],
};

/**
 * Calls that may hang here. The engine waits for other hanging calls of the store; test/unit/engine/serve-requests
 * covers them.
 */
const MAY_HANG = [
  'plan',
  'open',
  'identity',
  'extents',
  'read',
  'createTarget',
  'send',
  'commit',
  'guard',
  'unguard',
  'recordEvent',
  'dispose',
];

describe('random faults around the engine', function () {
  this.timeout(120_000);

  async function exportOnce(index: number): Promise<string> {
    // The factor keeps the seeds far apart, so that runs with neighbouring seeds share no export.
    const random = createRandom(SEED * 100_003 + index);
    const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T;
    const number = () => 1 + Math.floor(random() * 3);
    const fails = Object.fromEntries(
      Array.from({ length: Math.floor(random() * 5) }, () => {
        const name = pick(Object.keys(FAILURES));
        const call = `${name} ${number()}`;
        return [call, new DiskliftError(pick(FAILURES[name] ?? []), `${call} fails`)];
      }),
    );
    const hangsAt = random() < 0.4 ? `${pick(MAY_HANG)} ${number()}` : undefined;
    const end = pick(['cancel', 'deadline'] as const);
    const ports = createEnginePorts({ fails, hangsAt });
    const key = ports.add('a', end === 'deadline' && hangsAt !== undefined ? { activeDeadlineSeconds: 3 } : {});
    const served = ports.serve();
    const story = JSON.stringify({ fails: Object.values(fails).map(({ code, message }) => `${message}: ${code}`), hangsAt, end });
    try {
      if (end === 'cancel') void ports.hangs.then(() => ports.get(key) !== undefined && ports.cancel(key));
      const { phase = '', disks = [] } = await untilFinished(ports, key);
      if (phase === 'Succeeded') {
        assert.ok(
          ports.calls.some((call) => call.startsWith('commit')),
          'success without an image',
        );
        assert.match(disks[0]?.sha256 ?? '', /^[0-9a-f]{64}$/);
      } else assert.ok(phase === 'Failed' || phase === 'Cancelled', phase);
      assert.ok(phase !== 'Cancelled' || hangsAt !== undefined, 'nobody has cancelled it');
      // The engine waits for a store that hangs after the final status until the process ends.
      served.stop();
      await served.ended;
      assert.equal(ports.get(key)?.isClaimed, false, 'the claim is held');
      const isLeft = disks.some(({ upload }) => upload !== undefined);
      if (ports.get(key)?.isGuarded === false) assert.ok(!isLeft, 'an upload is left that nobody would drop');
      return phase;
    } catch (error) {
      throw new Error(`export ${index}: ${story}: ${error instanceof Error ? error.message : error}\n${ports.calls.join(', ')}`, {
        cause: error,
      });
    }
  }

  it(`let ${EXPORTS} requests end with an image or with a reason ${SEED_TEXT}`, async () => {
    const ends: Record<string, number> = {};
    let next = 0;
    const work = async () => {
      while (next < EXPORTS) {
        next += 1;
        const phase = await exportOnce(next - 1);
        ends[phase] = (ends[phase] ?? 0) + 1;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    assert.ok((ends.Succeeded ?? 0) > EXPORTS / 4 && (ends.Failed ?? 0) > 0 && (ends.Cancelled ?? 0) > 0, JSON.stringify(ends));
  });
});
