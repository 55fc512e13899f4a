/** `disklift receive --listen HOST:PORT --output FILE`: takes an image from an export over TCP. */

import { type Command, InvalidArgumentError, Option } from 'commander';
import type { ListenAddress } from '../../targets/tcp/session.ts';
import type { CommandContext } from '../../wiring/context.ts';
import type { ReceiveFlags } from '../actions/receive-image.ts';
import { endInTime } from '../end.ts';

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
    .action((flags: ReceiveFlags) =>
      endInTime(context, async () => {
        const { receiveImage } = await import('../actions/receive-image.ts');
        await receiveImage(flags, context);
      }),
    );
}

function parseAddress(text: string): ListenAddress {
  const match = /^(?:\[([0-9a-f:.%]+)\]|([^:[\]]*)):(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw new InvalidArgumentError('It is not HOST:PORT; an IPv6 address stands in brackets.');
  const host = match[1] ?? match[2];
  return host === undefined || host === '' ? { port } : { host, port };
}
