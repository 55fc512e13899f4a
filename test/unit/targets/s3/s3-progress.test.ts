/** Progress on a slow line: within a part, never back, and never more than was sent. */

import assert from 'node:assert/strict';
import { peerCertificate } from '../../../helpers/destinations/peer-certificate.ts';
import { type FaultProxy, startFaultProxy } from '../../../helpers/fault-proxy.ts';
import { type ImageInProcess, openImage } from '../../../helpers/image-in-process.ts';
import { type S3Sent, sendToS3 } from '../../../helpers/s3-export.ts';
import { type Quirk, type S3Fake, startS3Fake } from '../../../helpers/s3-fake.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

describe('s3 target on a slow line', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let fake: S3Fake;
  let proxy: FaultProxy;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('a.img'), 32 * MIB, [{ offsetBytes: 0, lengthBytes: 24 * MIB, content: 'random' }]));
  });
  afterEach(async () => {
    await proxy[Symbol.asyncDispose]();
    await fake[Symbol.asyncDispose]();
    await opened[Symbol.asyncDispose]();
  });

  /** Sends by a line of 8 MiB/s, and asserts at each report that as much has left. */
  async function send({ partSizeBytes = 12 * MIB, tls = false, quirks = [] as Quirk[] } = {}): Promise<S3Sent> {
    const identity = tls ? await peerCertificate() : undefined;
    fake = await startS3Fake({
      minPartBytes: 1,
      ...(identity === undefined ? {} : { tls: { cert: identity.certificate, key: identity.key } }),
    });
    fake.quirks.push(...quirks);
    proxy = await startFaultProxy(Number(new URL(fake.url).port));
    proxy.expect({ kind: 'slow', direction: 'toServer', atByte: 0, bytesPerSecond: 8 * MIB, everywhere: true, mayNotHappen: true });
    return sendToS3({
      image: opened.image,
      url: `${tls ? 'https' : 'http'}://127.0.0.1:${proxy.port}`,
      options: { partSizeBytes, concurrency: 3, ...(identity === undefined ? {} : { tls: { ca: identity.ca } }) },
      // A look at the connections is taken 40 times within the shorter limit.
      limits: { rateWindowMs: 4000, minRateBytesPerSecond: 1, silentMs: 4000 },
    });
  }

  for (const tls of [false, true])
    for (const [name, partSizeBytes] of [
      ['several parts', 12 * MIB],
      ['one PutObject', 64 * MIB],
    ] as const)
      it(`reports ${name} by bytes${tls ? ', over TLS' : ''}`, async () => {
        const { receipt, failure, progress } = await send({ partSizeBytes, tls });
        assert.ok(receipt, failure?.message);
        assert.equal(progress.at(-1), opened.image.sizeBytes);
        const within = progress.filter((bytes) => bytes % partSizeBytes !== 0 && bytes < opened.image.sizeBytes);
        assert.ok(within.length >= 5, progress.join(' '));
      });

  it('reports no more than the line has taken', async () => {
    const atReport: [number, number][] = [];
    fake = await startS3Fake({ minPartBytes: 1 });
    proxy = await startFaultProxy(Number(new URL(fake.url).port));
    proxy.expect({ kind: 'stall', direction: 'toServer', atByte: 6 * MIB, everywhere: true });
    const { failure } = await sendToS3({
      image: opened.image,
      url: `http://127.0.0.1:${proxy.port}`,
      options: { partSizeBytes: 12 * MIB, concurrency: 1 },
      limits: { silentMs: 1000, rateWindowMs: 1000 },
      context: { progress: (bytes) => void atReport.push([bytes, proxy.passed.toServer]) },
    });
    assert.equal(failure?.code, 'DestinationUnreachable');
    // The kernels of both sides hold the rest.
    const kernelBytes = 12 * MIB;
    for (const [bytes, passedBytes] of atReport) assert.ok(bytes <= passedBytes + kernelBytes, `${bytes} reported, ${passedBytes} passed`);
    assert.ok((atReport.at(-1)?.[0] ?? 0) < 12 * MIB, 'a part that did not leave is not reported');
    assert.ok((atReport.at(-1)?.[0] ?? 0) > 0);
  });

  it('does not go back when a part is sent again', async () => {
    const quirks: Quirk[] = [{ operation: 'UploadPart', times: 1, does: { status: 503, code: 'SlowDown' } }];
    const { receipt, failure, progress } = await send({ quirks });
    assert.ok(receipt, failure?.message);
    // sendToS3 asserts that every report is higher than the one before, and at most the image's size.
    assert.equal(progress.at(-1), opened.image.sizeBytes);
  });
});
