import { mkdir, writeFile } from 'node:fs/promises';
import { stringify } from 'yaml';
import { assertOthersGetThrough } from '../helpers/killed-again.ts';
import { credentialsSecret } from '../helpers/manifest.ts';
import { apply, startSidecar, statusOf } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

describe('a sidecar on a directory that is killed whenever one of its exports sends', function () {
  this.timeout(300_000);
  const temp = useTempDir();

  it('completes the other exports, and fails this one after backoffLimit', async () => {
    const requests = temp('requests');
    await mkdir(requests);
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 64 * MIB, [{ offsetBytes: MIB, lengthBytes: 12 * MIB, content: 'random' }]);
    const keys = credentialsSecret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
    await writeFile(temp('requests/keys.yaml'), stringify(keys));
    await assertOthersGetThrough({
      apply: (manifest) => apply(requests, manifest),
      statusOf: async (name) => statusOf(requests, name),
      start: () => startSidecar({ requests, volumes: [`claim=${temp('volume')}`], flags: ['--max-concurrent-exports', '3'] }),
    });
  });
});
