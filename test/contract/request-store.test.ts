import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import { systemClock } from '../../src/common/clock.ts';
import { createDirectoryStore } from '../../src/stores/directory/directory-store.ts';
import { credentialsSecret } from '../helpers/manifest.ts';
import { startStorageOutage } from '../helpers/storage-outage.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { itIsARequestStore } from './request-store.ts';

describe('request store', () => {
  const temp = useTempDir();

  describe('a directory of manifests', () => {
    itIsARequestStore(async () => {
      const directory = temp('requests');
      mkdirSync(directory, { recursive: true });
      const options = { directory, clock: systemClock, warn: () => {}, pollMs: 30, settleMs: 60 };
      const put = async (name: string, manifest: object) => {
        await writeFile(path.join(directory, `${name}.new`), stringify(manifest));
        await rename(path.join(directory, `${name}.new`), path.join(directory, `${name}.yaml`));
      };
      return {
        namespace: 'vms',
        createStore: () => createDirectoryStore(options),
        put: (manifest) => put(manifest.metadata.name, manifest),
        edit: (manifest) => put(manifest.metadata.name, manifest),
        remove: async (name) => rmSync(path.join(directory, `${name}.yaml`)),
        putSecret: (name, stringData) => put(name, credentialsSecret(name, stringData)),
        async statusOf(name) {
          try {
            return parse(readFileSync(path.join(directory, `${name}.status.yaml`), 'utf8')).status;
          } catch {
            return undefined;
          }
        },
        startOutage: (kind, context) => startStorageOutage({ directory, source: temp('other'), kind }, context),
        [Symbol.asyncDispose]: async () => rmSync(directory, { recursive: true }),
      };
    });
  });
});
