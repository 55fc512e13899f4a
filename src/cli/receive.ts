/** `disklift receive --listen HOST:PORT --output FILE`: takes an image from an export over TCP. */

import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import tty from 'node:tty';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { systemClock } from '../common/clock.ts';
import { DiskliftError, errnoOf } from '../common/errors.ts';
import { writeFully } from '../targets/stdout/write-fully.ts';
import { createFileOutput } from '../targets/tcp/file-output.ts';
import { createStreamOutput, type ImageOutput } from '../targets/tcp/image-output.ts';
import type { ListenAddress, ServerTls } from '../targets/tcp/listen.ts';
import { runReceiver } from '../targets/tcp/receiver.ts';
import { STDOUT_FD } from './compose.ts';
import type { CommandContext } from './context.ts';

interface ReceiveFlags {
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

export function addReceiveCommand(program: Command, context: CommandContext): void {
  program
    .command('receive')
    .description('receive an image that is exported over TCP, and print its size and SHA-256 as JSON')
    .requiredOption('--listen <host:port>', 'where to listen; port 0 takes any that is free', parseAddress)
    .requiredOption('--output <file>', 'the image; it grows as FILE.partial. -: standard output')
    .addOption(
      new Option('--protocol <protocol>', "acknowledged: resumed and confirmed; raw: all bytes up to the connection's end")
        .choices(['acknowledged', 'raw'])
        .default('acknowledged'),
    )
    .option('--tls-cert <file>', 'PEM: the certificate to show; with it TLS is spoken')
    .option('--tls-key <file>', 'PEM: its key')
    .option('--tls-client-ca <file>', 'PEM: senders must show a certificate of this authority')
    .option('--force', 'replace a file that is there', false)
    .option('--keep', 'go on after an image has been received', false)
    .action((flags: ReceiveFlags) => receiveImage(flags, context));
}

async function receiveImage(flags: ReceiveFlags, context: CommandContext): Promise<void> {
  const { listen: address, protocol, keep, output: file } = flags;
  const { signal, warn } = context;
  const tls = await readTls(flags);
  const output = await openOutput(flags, context);
  await runReceiver({
    address,
    tls,
    protocol: protocol === 'raw' ? 'Raw' : 'Acknowledged',
    output,
    keep,
    clock: systemClock,
    signal,
    warn,
    onListening: (bound) => process.stderr.write(`disklift: listening on ${addressText(bound)}\n`),
    onReceived: ({ sizeBytes, sha256 }) => {
      if (file !== STDOUT) process.stdout.write(`${JSON.stringify({ size: sizeBytes, sha256, file })}\n`);
    },
  });
}

/** @throws DiskliftError `InvalidRequest` */
async function openOutput({ output, force, keep }: ReceiveFlags, { libc, signal }: CommandContext): Promise<ImageOutput> {
  if (output !== STDOUT) return createFileOutput({ path: output, force });
  if (keep) throw new DiskliftError('InvalidRequest', 'standard output takes one image; --keep needs a file');
  if (tty.isatty(STDOUT_FD)) throw new DiskliftError('InvalidRequest', 'standard output is a terminal; redirect it to a file or a pipe');
  let writtenBytes = 0;
  return createStreamOutput(async (bytes) => {
    await writeFully({ fd: STDOUT_FD, libc, signal }, bytes, writtenBytes);
    writtenBytes += bytes.length;
  });
}

/** @throws DiskliftError `InvalidRequest` */
async function readTls({ tlsCert, tlsKey, tlsClientCa }: ReceiveFlags): Promise<ServerTls | undefined> {
  if (tlsCert === undefined && tlsKey === undefined && tlsClientCa === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) throw new DiskliftError('InvalidRequest', 'TLS needs both --tls-cert and --tls-key');
  return {
    certificate: await readPem(tlsCert),
    key: await readPem(tlsKey),
    clientCa: tlsClientCa === undefined ? undefined : await readPem(tlsClientCa),
  };
}

async function readPem(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new DiskliftError('InvalidRequest', `${path}: cannot be read: ${errnoOf(error)}`, error);
  }
}

function parseAddress(text: string): ListenAddress {
  const match = /^(?:\[([0-9a-f:.%]+)\]|([^:[\]]*)):(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw new InvalidArgumentError('It is not HOST:PORT; an IPv6 address stands in brackets.');
  const host = match[1] ?? match[2];
  return host === undefined || host === '' ? { port } : { host, port };
}

function addressText({ address, family, port }: AddressInfo): string {
  return `${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}
