/** Implements `disklift receive`. */

import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import tty from 'node:tty';
import { awaitStorage, type StorageWait } from '../../common/await-storage.ts';
import { DiskliftError, errnoOf } from '../../common/errors.ts';
import { writeFully } from '../../targets/stdout/write-fully.ts';
import { createFileOutput } from '../../targets/tcp/file-output.ts';
import { createStreamOutput, type ImageOutput } from '../../targets/tcp/image-output.ts';
import { runReceiver } from '../../targets/tcp/receiver.ts';
import type { ListenAddress, ServerTls } from '../../targets/tcp/session.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { STDOUT_FD } from '../../wiring/stream.ts';
import { printOutput, requireOpenStdout } from '../standard-output.ts';

export interface ReceiveFlags {
  listen: ListenAddress;
  output: string;
  protocol: 'acknowledged' | 'raw';
  tlsCert?: string;
  tlsKey?: string;
  tlsClientCa?: string;
  force: boolean;
  keep: boolean;
}

const STDOUT = '-';

export async function receiveImage(flags: ReceiveFlags, context: CommandContext): Promise<void> {
  const { listen: address, protocol, keep, output: file } = flags;
  const { clock, signal, warn } = context;
  const tls = await readTls(flags, context);
  const output = await awaitStorage(file, openOutput(flags, context), context);
  let printed = Promise.resolve();
  const run = runReceiver({
    address,
    tls,
    protocol: protocol === 'raw' ? 'Raw' : 'Acknowledged',
    output,
    keep,
    clock,
    signal,
    warn,
    onListening: (bound) => process.stderr.write(`disklift: listening on ${addressText(bound)}\n`),
    onReceived: ({ sizeBytes, sha256 }) => {
      if (file === STDOUT) return;
      printed = printed.then(() => printOutput(`${JSON.stringify({ size: sizeBytes, sha256, file })}\n`, context));
      printed.catch((error: unknown) => warn(`${file}: is there, but cannot be reported: ${(error as Error).message}`));
    },
  });
  // Also after a signal: scripts read a line for every image that was confirmed. A failure to print is reported above.
  await run.finally(() => printed.catch(() => {}));
  await printed;
}

/** @throws DiskliftError `InvalidRequest` */
async function openOutput({ output, force, keep }: ReceiveFlags, { libc, signal }: CommandContext): Promise<ImageOutput> {
  if (output !== STDOUT) return createFileOutput({ path: output, force });
  requireOpenStdout();
  if (keep) throw new DiskliftError('InvalidRequest', 'standard output takes one image; --keep needs a file');
  if (tty.isatty(STDOUT_FD)) throw new DiskliftError('InvalidRequest', 'standard output is a terminal; redirect it to a file or a pipe');
  let writtenBytes = 0;
  return createStreamOutput(async (bytes) => {
    await writeFully({ fd: STDOUT_FD, libc, signal }, bytes, writtenBytes);
    writtenBytes += bytes.length;
  });
}

/** @throws DiskliftError `InvalidRequest` */
async function readTls({ tlsCert, tlsKey, tlsClientCa }: ReceiveFlags, wait: StorageWait): Promise<ServerTls | undefined> {
  if (tlsCert === undefined && tlsKey === undefined && tlsClientCa === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) throw new DiskliftError('InvalidRequest', 'TLS needs both --tls-cert and --tls-key');
  return {
    certificate: await readPem(tlsCert, wait),
    key: await readPem(tlsKey, wait),
    clientCa: tlsClientCa === undefined ? undefined : await readPem(tlsClientCa, wait),
  };
}

async function readPem(path: string, wait: StorageWait): Promise<string> {
  try {
    return await awaitStorage(path, readFile(path, 'utf8'), wait);
  } catch (error) {
    if (error instanceof DiskliftError) throw error;
    throw new DiskliftError('InvalidRequest', `${path}: cannot be read: ${errnoOf(error)}`, error);
  }
}

function addressText({ address, family, port }: AddressInfo): string {
  return `${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}
