/**
 * A namespace that is deleted, and a chart that is uninstalled, while an upload is open: with the chart's own Role,
 * which is deleted as well.
 */

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { MIB } from '../../src/common/bytes.ts';
import { diskExport } from '../helpers/manifest.ts';
import { type S3Fake, startS3Fake } from '../helpers/s3-fake.ts';
import { s3InParts } from '../helpers/s3-in-parts.ts';
import type { Sidecar } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { applyChartAccount, type ChartAccount } from './chart-account.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { requireBinaries } from './kubernetes-binaries.ts';

const CRD = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/diskexports.disklift.dev';
const LIMIT_MS = 60_000;

describe('while an upload is open', function () {
  this.timeout(120_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;
  let account: ChartAccount;
  let s3: S3Fake;
  let sidecar: Sidecar;

  before(async function () {
    api = await startApiServer(requireBinaries(this), { controllerManager: true });
  });

  after(() => api?.stop());

  beforeEach(async () => {
    await installCrd(api);
    namespace = await createNamespace(api);
    account = await applyChartAccount(api, namespace.name);
    await namespace.secret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 32 * MIB, [{ offsetBytes: MIB, lengthBytes: 24 * MIB, content: 'random' }]);
    s3 = await startS3Fake();
    s3.quirks.push({ operation: 'UploadPart', after: 1, does: 'hang' });
    sidecar = await namespace.start({ volumes: [`claim=${temp('volume')}`], flags: ['--kubeconfig', account.kubeconfig] });
    await namespace.apply(diskExport('long', s3InParts(s3.url, '{name}')));
    await until('a part hangs', () => s3.count('UploadPart') > 1);
    assert.deepEqual((await namespace.get('long'))?.metadata.finalizers, ['disklift.dev/cleanup']);
  });

  afterEach(async () => {
    await sidecar?.[Symbol.asyncDispose]();
    // An export that remains would block the deletion of the next test's resource.
    const patch = { method: 'PATCH', body: { metadata: { finalizers: null } }, contentType: 'application/merge-patch+json' } as const;
    await namespace?.request('diskexports/long', patch);
    await s3?.[Symbol.asyncDispose]();
  });

  async function goes(place: string): Promise<void> {
    const endMs = performance.now() + LIMIT_MS;
    for (;;) {
      const { status, body } = await api.request(place);
      if (status === 404) return;
      assert.ok(performance.now() < endMs, `${JSON.stringify(body.status)} ${sidecar.output()}`);
      await sleep(200);
    }
  }

  async function removeAccount(): Promise<void> {
    const { code, stderr } = await api.kubectl('delete', '--namespace', namespace.name, '--filename', account.file);
    assert.equal(code, 0, stderr);
  }

  async function deleteNamespace(): Promise<void> {
    const place = `/api/v1/namespaces/${namespace.name}`;
    assert.equal((await api.request(place, { method: 'DELETE' })).status, 200);
    await goes(place);
  }

  it('the deletion of the namespace completes, and no upload stays open at the destination', async () => {
    await deleteNamespace();
    assert.equal(s3.store.uploads.size, 0);
    assert.equal(s3.store.objects.size, 0);
  });

  it('the deletion of the namespace completes although the destination does not answer', async () => {
    s3.quirks.push({ operation: 'AbortMultipartUpload', does: 'hang' });
    await deleteNamespace();
  });

  it('the deletion of the export completes within seconds although the destination does not answer', async () => {
    s3.quirks.push({ operation: 'AbortMultipartUpload', does: 'hang' });
    const startMs = performance.now();
    await namespace.remove('long');
    await namespace.until('long', (object) => object === undefined);
    const tookMs = performance.now() - startMs;
    assert.ok(tookMs < 20_000, `${tookMs} ms`);
  });

  it('the chart and the resource can be uninstalled', async () => {
    assert.equal(await sidecar.stop(), 0);
    await removeAccount();
    assert.equal((await api.request(CRD, { method: 'DELETE' })).status, 200);
    await goes(CRD);
  });
});
