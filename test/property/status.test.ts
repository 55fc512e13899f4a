import assert from 'node:assert/strict';
import { Ajv } from 'ajv';
import fc from 'fast-check';
import { exportStatusOf, invalidStatusOf } from '../../src/engine/export-status.ts';
import { statusesByLength } from '../../src/engine/status-writer.ts';
import type { DiskExportStatus } from '../../src/resource/disk-export.ts';
import { fitStatus } from '../../src/resource/status.ts';
import { STATUS_SCHEMA } from '../../src/resource/status-schema.ts';
import { validateStatus } from '../../src/resource/validate.ts';
import { extremeExports } from '../helpers/extreme-exports.ts';
import { SEED, SEED_TEXT } from '../helpers/seed.ts';

/** etcd takes objects of 1.5 MiB; the spec, annotations and managedFields have the rest. */
const MAX_BYTES = 700_000;

const conforms = new Ajv({ strict: true, strictRequired: false, allErrors: true }).compile(STATUS_SCHEMA);

function assertConforms(status: DiskExportStatus): void {
  const json = JSON.parse(JSON.stringify(status));
  assert.ok(conforms(json), JSON.stringify(conforms.errors));
  assert.deepEqual(validateStatus(json), json);
}

describe(`a status ${SEED_TEXT}`, () => {
  it('conforms to the schema and is small enough for etcd, with any texts of disks, destinations and pods', () => {
    let truncated = 0;
    fc.assert(
      fc.property(extremeExports(), (facts) => {
        const status = exportStatusOf(facts, undefined);
        if (/…$/.test(status.message ?? '')) truncated += 1;
        assertConforms(status);
        assert.ok(Buffer.byteLength(JSON.stringify(status)) < MAX_BYTES);
        for (const brief of statusesByLength(status)) assertConforms(brief);
        assert.deepEqual(status.disks?.map(({ path }) => path) ?? [], facts.disks?.map(({ path }) => path) ?? []);
      }),
      { seed: SEED, numRuns: 60 },
    );
    assert.ok(truncated > 2, `${truncated} statuses have a message that was truncated`);
  });

  it('keeps its end and its receipts in the shorter forms, and an open upload in every form', () => {
    fc.assert(
      fc.property(extremeExports(), (facts) => {
        const status = exportStatusOf(facts, undefined);
        const forms = statusesByLength(status);
        const uploads = ({ disks = [] }: DiskExportStatus) => disks.map(({ upload }) => upload).filter(Boolean);
        for (const form of forms) {
          assert.deepEqual([form.phase, form.completionTime], [status.phase, status.completionTime]);
          assert.deepEqual(uploads(form), uploads(status));
        }
        assert.deepEqual(forms[1]?.disks?.map(({ location }) => location) ?? [], status.disks?.map(({ location }) => location) ?? []);
      }),
      { seed: SEED, numRuns: 30 },
    );
  });

  it('conforms for an invalid request, which gets only one', () => {
    fc.assert(
      fc.property(extremeExports(), ({ leftOut = [] }) => {
        const invalid = { kind: 'invalid' as const, message: leftOut.join(' ') };
        const status = invalidStatusOf({ ...invalid, status: undefined }, 0) ?? assert.fail('no status');
        assertConforms(status);
        assert.equal(invalidStatusOf({ ...invalid, status }, 1000), undefined);
      }),
      { seed: SEED, numRuns: 30 },
    );
  });

  it('can be made from any value', () => {
    fc.assert(
      fc.property(
        fc.object({ key: fc.constantFrom(...Object.keys(STATUS_SCHEMA.properties ?? {}), 'path', 'type'), maxDepth: 4 }),
        (value) => {
          assertConforms(fitStatus(value as DiskExportStatus));
        },
      ),
      { seed: SEED, numRuns: 500 },
    );
  });

  it('stays unchanged if it conforms and is small', () => {
    const status: DiskExportStatus = {
      phase: 'Streaming',
      message: 'disk.img: is sent (attempt 1), 漢字 and 😀 included',
      disks: [{ path: 'a\u202eb.img', upload: { id: 'x\n', partSize: 1, fingerprint: 'f' } }],
    };
    assert.deepEqual(fitStatus(status), status);
  });

  it('shows a character that changes the text direction as its number', () => {
    assert.equal(fitStatus({ message: 'exe\u202egnp.img\nis read' }).message, 'exe\\u202egnp.img\\u000ais read');
  });
});
