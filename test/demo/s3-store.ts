/** An S3 server for the demo: versitygw if `make test` has built it, otherwise the fake of the tests. */

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { BUCKET, startS3Fake } from '../helpers/s3-fake.ts';
import { startVersitygw, VERSITYGW_KEYS, versitygwPath } from '../helpers/versitygw.ts';

interface S3Store extends AsyncDisposable {
  what: string;
  url: string;
  bucket: string;
  keys: { accessKeyId: string; secretAccessKey: string };
  /** Puts an object where qemu-img can read it. @returns the file's path */
  fetch(key: string): string;
}

export async function startS3Store(directory: string): Promise<S3Store> {
  mkdirSync(directory);
  if (existsSync(versitygwPath())) {
    const server = await startVersitygw(directory, BUCKET);
    return {
      what: 'versitygw',
      url: server.url,
      bucket: BUCKET,
      keys: VERSITYGW_KEYS,
      fetch: (key) => server.objectPath(BUCKET, key),
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  }
  const server = await startS3Fake();
  return {
    what: 'the S3 server of the tests',
    url: server.url,
    bucket: BUCKET,
    keys: { accessKeyId: 'demo', secretAccessKey: 'demo-secret' },
    fetch(key) {
      const object = server.store.objects.get(key);
      if (object === undefined) throw new Error(`${key} is not in the object store`);
      const file = path.join(directory, path.basename(key));
      writeFileSync(file, object.body);
      return file;
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
