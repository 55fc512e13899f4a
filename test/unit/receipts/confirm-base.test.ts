/** The images below a base: chains that readers refuse, that lead back to themselves, or that miss an image. */

import assert from 'node:assert/strict';
import { DiskliftError } from '../../../src/common/errors.ts';
import { confirmChain } from '../../../src/receipts/confirm-base.ts';
import { type BaseReference, type ImageReceipt, receiptBytes } from '../../../src/receipts/receipt.ts';
import type { DestinationFiles } from '../../../src/targets/contract.ts';

const SHA256 = 'a'.repeat(64);
const { signal } = new AbortController();

function reference(place: string): BaseReference {
  return { place, sha256: SHA256, sizeBytes: 1000, virtualSizeBytes: 4096 };
}

function receipt(place: string, base: string | undefined): ImageReceipt {
  return {
    image: {
      ...reference(place),
      proof: 'ETag',
      dataClusters: 1,
      layout: 'Converted',
      options: { clusterSizeBytes: 65_536, version: 3, refcountBits: 16 },
    },
    disk: { namespace: 'vms', source: { kind: 'PersistentVolumeClaim', name: 'root' }, path: 'disk.img' },
    export: { name: 'nightly', uid: 'uid' },
    time: '2026-11-30T02:00:00Z',
    type: base === undefined ? 'Full' : 'Incremental',
    readBytes: 4096,
    ...(base === undefined ? {} : { base: reference(base) }),
    points: {},
  };
}

/** Images whose receipts name the image behind them in the list. A place that is named twice makes a circle. */
function chain(...places: string[]): DestinationFiles {
  const receipts = new Map(places.map((place, index) => [place, receipt(place, places[index + 1])] as const).reverse());
  const refuse = () => assert.fail('is not called');
  return {
    location: (place) => `s3://backups/${place}`,
    async read(file) {
      if (file.includes('?')) throw new DiskliftError('InvalidRequest', 'has a query');
      const found = receipts.get(file.replace(/\.json$/, ''));
      return found && { bytes: receiptBytes(found) };
    },
    look: async (place) => (receipts.has(place) ? { sizeBytes: 1000 } : undefined),
    readRange: refuse,
    write: refuse,
  } satisfies Partial<DestinationFiles> as DestinationFiles;
}

const names = (count: number) => Array.from({ length: count }, (_, index) => `vms/${index}.qcow2`);

describe('confirmChain', () => {
  it('accepts a base without a base', () => confirmChain(chain(), undefined, signal));

  it('accepts the 62 images that may lie below a base', () => confirmChain(chain(...names(62)), reference('vms/0.qcow2'), signal));

  for (const [sentence, files, code] of [
    ['refuses a chain of 65 images with the new one', chain(...names(63)), 'ChainTooLong'],
    ['refuses a chain that leads back to itself', chain('vms/0.qcow2', 'vms/1.qcow2', 'vms/0.qcow2'), 'ChainTooLong'],
    ['refuses a place that no destination has', chain('vms/0.qcow2', 'a?b'), 'ReceiptInvalid'],
    ['refuses a chain without its last image', chain(), 'BaseMissing'],
  ] as const)
    it(sentence, () =>
      assert.rejects(
        confirmChain(files, reference('vms/0.qcow2'), signal),
        (error: unknown) => error instanceof DiskliftError && error.code === code && error.message.length > 20,
      ),
    );
});
