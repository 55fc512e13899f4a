import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import type tls from 'node:tls';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { createNetworkAccess } from '../../../../src/network/destination-policy.ts';
import type { TransferContext } from '../../../../src/targets/contract.ts';
import { createTcpTarget, type TcpTargetOptions } from '../../../../src/targets/tcp/tcp-target.ts';
import { type ImageInProcess, openImage } from '../../../helpers/image-in-process.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { startTcpPeer, takeAll } from '../../../helpers/tcp-peer.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { createTestAuthority, type TestAuthority } from '../../../helpers/test-authority.ts';
import { transferContext } from '../../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;

describe('tcp target over TLS', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let authority: TestAuthority;
  beforeEach(async () => {
    authority = await createTestAuthority(temp(''));
    opened = await openImage(await createDisk(temp('a.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 5 * MIB, content: 'random' }]));
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  interface Sent {
    failure?: DiskliftError;
    /** By the server, of the plain text. */
    receivedBytes: number;
    /** How the connection ended for the server; undefined when it never stood. */
    ended?: string | undefined;
  }

  async function send(
    material: TcpTargetOptions['tls'],
    server: tls.TlsOptions,
    context: Partial<TransferContext> = {},
    host = '127.0.0.1',
  ): Promise<Sent> {
    await using peer = await startTcpPeer({ tls: server, onSocket: takeAll });
    const target = createTcpTarget({
      host,
      port: peer.port,
      protocol: 'Raw',
      tls: material,
      access: createNetworkAccess(),
      clock: systemClock,
      exportUid: 'uid-1',
      disk: 'a.img',
    });
    const failure = await target.send(opened.image, transferContext(context)).then(
      () => undefined,
      (error: unknown) => error,
    );
    const ended = await peer.ended(0).catch(() => undefined);
    const receivedBytes = peer.received(0).length;
    if (failure === undefined) return { receivedBytes, ended };
    assert.ok(failure instanceof DiskliftError, String(failure));
    return { failure, receivedBytes, ended };
  }

  function assertRefused({ failure, receivedBytes }: Sent, message: RegExp): void {
    assert.match(failure?.message ?? 'no failure', message);
    assert.deepEqual([failure?.code, failure?.retryable, receivedBytes], ['DestinationUnreachable', false, 0]);
  }

  it('trusts the authority that it is given, and no other', async () => {
    const { certificate: cert, key } = await authority.issue('server', 'IP:127.0.0.1');
    assert.deepEqual(await send({ ca: authority.ca }, { cert, key }), { receivedBytes: opened.image.sizeBytes, ended: 'end' });
    assertRefused(await send({}, { cert, key }), /authority that is not trusted$/);
    mkdirSync(temp('other'));
    const other = await createTestAuthority(temp('other'));
    assertRefused(await send({ ca: other.ca }, { cert, key }), /TLS: /);
  });

  it('asks for the name of the host, or for the one that it is given', async () => {
    const { certificate: cert, key } = await authority.issue('server', 'DNS:localhost');
    assertRefused(await send({ ca: authority.ca }, { cert, key }), /the certificate is for another name$/);
    const names: string[] = [];
    const server: tls.TlsOptions = {
      cert,
      key,
      SNICallback: (name, done) => {
        names.push(name);
        done(null);
      },
    };
    assert.equal((await send({ ca: authority.ca, serverName: 'localhost' }, server)).failure, undefined);
    assert.equal((await send({ ca: authority.ca }, server, {}, 'localhost')).failure, undefined);
    assert.deepEqual(names, ['localhost', 'localhost']);
  });

  it('shows its own certificate to a server that wants one', async () => {
    const { certificate: cert, key } = await authority.issue('server', 'IP:127.0.0.1');
    const server = { cert, key, ca: authority.ca, requestCert: true, rejectUnauthorized: true };
    const client = await authority.issue('client', 'DNS:client.example');
    assert.equal((await send({ ca: authority.ca, ...client }, server)).receivedBytes, opened.image.sizeBytes);
    const { failure, receivedBytes } = await send({ ca: authority.ca }, server);
    assert.deepEqual([failure?.code, receivedBytes], ['DestinationUnreachable', 0]);
  });

  it('resets the connection when the seal breaks', async () => {
    const { certificate: cert, key } = await authority.issue('server', 'IP:127.0.0.1');
    const broken = new DiskliftError('SourceChanged', 'changed');
    const sent = await send({ ca: authority.ca }, { cert, key }, { seal: () => Promise.reject(broken) });
    assert.equal(sent.failure, broken);
    assert.equal(sent.ended, 'ECONNRESET');
    assert.ok(sent.receivedBytes <= opened.image.sizeBytes - 2 * MIB, `${sent.receivedBytes}`);
  });
});
