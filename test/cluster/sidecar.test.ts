/** `disklift sidecar` on a real API server: what is applied is claimed, exported, told and cleaned up. */

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { diskExport } from '../helpers/manifest.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { kubernetesBinaries } from './kubernetes-binaries.ts';

const MIB = 1024 * 1024;

describe('disklift sidecar in a cluster', function () {
  this.timeout(90_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;
  let volumes: string[];

  before(async function () {
    const binaries = kubernetesBinaries();
    if (binaries === undefined) return this.skip();
    api = await startApiServer(binaries);
    await installCrd(api);
  });

  after(() => api?.stop());

  beforeEach(async () => {
    namespace = await createNamespace(api);
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 16 * MIB, [{ offsetBytes: MIB, lengthBytes: 5 * MIB, content: 'random' }]);
    volumes = [`claim=${temp('volume')}`];
  });

  async function assertArrived(sink: HttpSink, place: string): Promise<void> {
    await writeFile(temp('arrived.qcow2'), sink.complete.get(place) ?? assert.fail(`nothing at ${place}`));
    await assertImageOf(temp('arrived.qcow2'), temp('volume/disk.img'));
  }

  it('runs what is there and what comes, and leaves neither a Lease nor a finalizer', async () => {
    await using sink = await startHttpSink();
    await namespace.apply(diskExport('before', { http: { url: `${sink.url}/{name}` } }));
    await using sidecar = await namespace.start({
      volumes,
      flags: ['--pod-name', 'pod-1', '--pod-uid', 'uid-1', '--node-name', 'node-1'],
    });
    await namespace.apply(diskExport('after', { http: { url: `${sink.url}/{name}` } }));
    for (const name of ['before', 'after']) {
      const status = await namespace.finished(name);
      assert.equal(status.phase, 'Succeeded', status.message);
      assert.deepEqual(status.executor, { podName: 'pod-1', podUID: 'uid-1', nodeName: 'node-1' });
      assert.equal(status.observedGeneration, 1);
      await assertArrived(sink, `/${name}`);
    }
    assert.equal((await sidecar.get('/readyz')).status, 200);
    assert.equal(await sidecar.stop(), 0);
    assert.deepEqual(await namespace.leases(), []);
    assert.equal((await namespace.get('after'))?.metadata.finalizers, undefined);
  });
});
