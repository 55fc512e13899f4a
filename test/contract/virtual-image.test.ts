import assert from 'node:assert/strict';
import { systemClock } from '../../src/common/clock.ts';
import { digestImage } from '../../src/image/digest.ts';
import { type PrepareOptions, prepareImage } from '../../src/image/prepare-image.ts';
import type { Qcow2Options } from '../../src/qcow2/write/options.ts';
import { DEFAULT_OPTIONS, NEVER, openSource } from '../helpers/image-in-process.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { trackedDisk } from '../helpers/tracked-disk.ts';
import { describeVirtualImage } from './virtual-image.ts';

const KIB = 1024;
const SMALL: Qcow2Options = { ...DEFAULT_OPTIONS, clusterSizeBytes: 4 * KIB };

function prepare(options: Partial<PrepareOptions> & Pick<PrepareOptions, 'openSource'>) {
  return prepareImage({
    qcow2: SMALL,
    zeroDetection: 'content',
    signal: NEVER,
    clock: systemClock,
    warn: (text) => assert.fail(text),
    ...options,
  });
}

describe('virtual images', () => {
  const temp = useTempDir();

  // The file is made once for each test, because a new file has another identity.
  beforeEach(() =>
    createDisk(temp('disk.img'), 900 * KIB + 512, [
      { offsetBytes: 5000, lengthBytes: 300 * KIB, content: 'random' },
      { offsetBytes: 400 * KIB, lengthBytes: 64 * KIB, content: 'zeros' },
      { offsetBytes: 900 * KIB, lengthBytes: 100, content: 'random' },
    ]),
  );
  const openFile = () => openSource(temp('disk.img'));

  describeVirtualImage('a file', () => prepare({ openSource: openFile }));
  describeVirtualImage('a file in its own format', () => prepare({ openSource: openFile, layout: 'Verbatim' }));
  describeVirtualImage('a disk that is compared', () =>
    prepare({ openSource: async () => trackedDisk('UuCCuuZU'.repeat(40), 4 * KIB).source }),
  );
  describeVirtualImage('a disk with a digest', async () => {
    const prepared = await prepare({ openSource: openFile });
    return { image: digestImage(prepared.image).image, [Symbol.asyncDispose]: () => prepared[Symbol.asyncDispose]() };
  });

  const qcow2: Qcow2Options = { ...SMALL, backingFile: { name: 'full.qcow2', format: 'qcow2' } };
  const letters = 'UUuCCcccuZZUUUUC'.repeat(30);
  describeVirtualImage('a delta', () => prepare({ qcow2, verify: 'never', openSource: async () => trackedDisk(letters, 2 * KIB).source }));
  describeVirtualImage('a delta that is compared', () => prepare({ qcow2, openSource: async () => trackedDisk(letters, 3 * KIB).source }));
  describeVirtualImage('a delta on a shorter base', () =>
    prepare({ qcow2, baseSizeBytes: 300 * KIB, openSource: async () => trackedDisk(letters, 2 * KIB).source }),
  );
});
