/**
 * Exports whose facts lie at the limits of the status and far beyond: with extreme texts of disks, destinations and
 * pods.
 */

import fc from 'fast-check';
import { DiskliftError, type ErrorCode } from '../../src/common/errors.ts';
import type { ExportFacts } from '../../src/engine/export-status.ts';
import { type DiskState, newDiskState, type Phase } from '../../src/engine/observer.ts';
import type { DiskExport } from '../../src/resource/disk-export.ts';
import { DEFAULT_OPTIONS } from './image-in-process.ts';

const MAX_DISKS = 64;
/** The CRD refuses longer paths in a request, and the plan refuses longer paths that a pattern finds. */
const MAX_PATH_CHARACTERS = 1024;
const PHASES: readonly Phase[] = ['Pending', 'Scanning', 'Streaming', 'Verifying', 'Succeeded', 'Failed', 'Cancelled'];
const CODES: readonly ErrorCode[] = ['SourceReadError', 'SourceInUse', 'DestinationRejected', 'StoreRefused', 'DeadlineExceeded'];
/** One to four bytes, line ends, what controls terminals and directions, and halves of characters. */
const CHARACTERS = ['a', '/', '"', 'é', '漢', '😀', '\n', '\u0000', '\u001b', '\u202e', '\u2028', '\ud800', '\udc00'];

const text = (maxCharacters: number): fc.Arbitrary<string> =>
  fc
    .tuple(
      fc.array(fc.constantFrom(...CHARACTERS), { minLength: 1, maxLength: 4 }),
      fc.oneof(fc.constant(1), fc.integer({ min: 1, max: maxCharacters }), fc.constant(maxCharacters)),
    )
    .map(([parts, length]) => [...parts.join('').repeat(length)].slice(0, length).join(''));

const failure = fc
  .record({ code: fc.constantFrom(...CODES), message: text(40_000) })
  .map(({ code, message }) => new DiskliftError(code, message));

const diskFacts: fc.Arbitrary<Partial<DiskState>> = fc.record(
  {
    attempts: fc.nat(2000),
    virtualBytes: fc.constantFrom(0, 65_536, 2 ** 44),
    imageBytes: fc.constantFrom(196_608, 2 ** 44),
    format: text(40),
    notice: text(9000),
    failure,
    isQueued: fc.boolean(),
    upload: fc.record({ id: text(3000), partSizeBytes: fc.constantFrom(1, 2 ** 32), fingerprint: text(300) }),
    receipt: fc.record({
      location: text(20_000),
      sizeBytes: fc.constant(196_608),
      etag: text(3000),
      sha256: fc.constantFrom('ab'.repeat(32), 'none'),
      proof: fc.constantFrom('etag' as const, 'digest' as const),
    }),
  },
  { requiredKeys: ['attempts'] },
);

/** @param isPatient whether most exports may have the maximum number of disks */
function disksOf(isPatient: boolean): fc.Arbitrary<DiskState[]> {
  const count = fc.oneof({ arbitrary: fc.integer({ min: 0, max: 3 }), weight: isPatient ? 1 : 9 }, fc.constant(MAX_DISKS));
  return fc
    .tuple(count, text(MAX_PATH_CHARACTERS - 3), diskFacts, diskFacts, fc.array(fc.constantFrom(...PHASES), { minLength: 1 }))
    .map(([length, path, first, others, phases]) =>
      Array.from({ length }, (_, index) => ({
        ...newDiskState({ path: `${index}-${path}`.toWellFormed(), qcow2: DEFAULT_OPTIONS }),
        ...(index === 0 ? first : others),
        phase: phases[index % phases.length] as Phase,
      })),
    );
}

const request = {
  metadata: { name: 'nightly', namespace: 'vms', uid: 'u', generation: 3 },
  spec: { source: { persistentVolumeClaim: { claimName: 'root' } }, destination: { http: { url: 'http://sink.example/{disk}' } } },
} as unknown as DiskExport;

export function extremeExports({ isPatient = false } = {}): fc.Arbitrary<ExportFacts> {
  return fc.record({
    request: fc.constant(request),
    disks: fc.option(disksOf(isPatient), { nil: undefined }),
    leftOut: fc.array(text(5000), { maxLength: 12 }),
    end: fc.option(
      fc.record({
        phase: fc.constantFrom('Succeeded' as const, 'Failed' as const, 'Cancelled' as const, 'Pending' as const),
        failure: fc.option(failure, { nil: undefined }),
      }),
      { nil: undefined },
    ),
    startMs: fc.constant(Date.UTC(2026, 0, 1)),
    nowMs: fc.constant(Date.UTC(2026, 0, 2)),
    executor: fc.record({ podName: text(300), podUID: text(200), nodeName: text(300) }),
  });
}
