// Shares a process: API server

import { mkdir } from 'node:fs/promises';
import { assertOthersGetThrough } from '../helpers/killed-again.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import type { ApiServer } from './api-server.ts';
import { createNamespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { useApiServer } from './use-api-server.ts';

const MIB = 1024 * 1024;

describe('a sidecar in a cluster that is killed whenever one of its exports sends', function () {
  this.timeout(300_000);
  const temp = useTempDir();
  let api: ApiServer;

  before(async function () {
    api = await useApiServer(this);
    await installCrd(api);
  });

  it('completes the other exports, and fails this one after backoffLimit', async () => {
    const namespace = await createNamespace(api);
    await namespace.secret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 64 * MIB, [{ offsetBytes: MIB, lengthBytes: 12 * MIB, content: 'random' }]);
    // With Leases of a minute: each process has to prove that its predecessor has ended.
    const flags = ['--max-concurrent-exports', '3', '--pod-name', 'pod', '--lease-duration-seconds', '60'];
    await assertOthersGetThrough({
      apply: namespace.apply,
      statusOf: async (name) => (await namespace.get(name))?.status,
      start: () => namespace.start({ volumes: [`claim=${temp('volume')}`], flags }),
    });
  });
});
