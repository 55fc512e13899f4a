/** koffi and the C library that it has loaded. koffi is optional: an installation for another platform lacks it. */

import { createRequire } from 'node:module';
import os from 'node:os';
import { getSystemErrorName } from 'node:util';

type KoffiModule = typeof import('koffi');

export interface NativeLibrary {
  /** Declares a function by its C prototype. */
  func: ReturnType<KoffiModule['load']>['func'];
  /** The address of a buffer's memory, which must not move: a Buffer's own allocation, not a small typed array. */
  addressOf(buffer: Uint8Array): bigint;
  /** The error number of the last call. Read it at once: any other JavaScript code may change it. */
  errno: KoffiModule['errno'];
}

const LIBRARY_NAMES = ['libc.so.6', `libc.musl-${os.machine()}.so.1`];

function loadKoffi(): KoffiModule | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    return createRequire(import.meta.url)('koffi') as KoffiModule;
  } catch {
    // Not installed for this platform.
    return undefined;
  }
}

/** The functions that the Node executable exports, OpenSSL's among them. Undefined without koffi. */
export function openOwnProgram(): Pick<NativeLibrary, 'func'> | undefined {
  const own = loadKoffi()?.load(null);
  return own === undefined ? undefined : { func: own.func.bind(own) };
}

/** Undefined where koffi is not installed, or cannot open a C library. */
export function openNativeLibrary(): NativeLibrary | undefined {
  const koffi = loadKoffi();
  if (koffi === undefined) return undefined;
  for (const name of LIBRARY_NAMES) {
    try {
      const library = koffi.load(name);
      return {
        func: library.func.bind(library),
        addressOf: (buffer) => BigInt(koffi.address(buffer)),
        errno: koffi.errno,
      };
    } catch {
      // The other C library, then.
    }
  }
  return undefined;
}

/** The one name that Node, too, gives an error that has several (EAGAIN and EWOULDBLOCK are the same number). */
export function nameOfErrno(errno: number): string {
  return getSystemErrorName(-errno);
}
