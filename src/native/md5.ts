/**
 * MD5 (RFC 1321) in libuv's thread pool, by the OpenSSL inside Node. `node:crypto` computes MD5 on the event loop only.
 */

import { openOwnProgram } from './library.ts';

const MD5_BYTES = 16;

/** MD5 of the empty message (RFC 1321, appendix A.5). */
const MD5_OF_NOTHING = 'd41d8cd98f00b204e9800998ecf8427e';

/** @returns the digest in hex. The caller must not write to `bytes` before that. */
export type Md5 = (bytes: Uint8Array) => Promise<string>;

let loaded: Promise<Md5 | undefined> | undefined;

/** Undefined without koffi, and where Node does not export the function or a FIPS policy forbids it. Bound once. */
export function loadMd5(): Promise<Md5 | undefined> {
  loaded ??= bind();
  return loaded;
}

async function bind(): Promise<Md5 | undefined> {
  try {
    const own = openOwnProgram();
    if (own === undefined) return undefined;
    const native = own.func('void *MD5(const void *data, size_t length, void *digest)');
    /** Buffers of running calls, to which koffi keeps no reference. */
    const inFlight = new Set<readonly unknown[]>();
    const md5: Md5 = async (bytes) => {
      const digest = Buffer.alloc(MD5_BYTES);
      const parameters = [bytes, bytes.length, digest];
      inFlight.add(parameters);
      try {
        await new Promise<void>((resolve, reject) =>
          native.async(...parameters, (error: Error | null) => (error === null ? resolve() : reject(error))),
        );
      } finally {
        inFlight.delete(parameters);
      }
      return digest.toString('hex');
    };
    // A build of OpenSSL for FIPS has the function and refuses to compute.
    return (await md5(new Uint8Array())) === MD5_OF_NOTHING ? md5 : undefined;
  } catch {
    // This executable exports no such function.
    return undefined;
  }
}
