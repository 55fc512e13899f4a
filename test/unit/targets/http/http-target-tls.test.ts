import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import type https from 'node:https';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { createHttpTarget, type HttpTargetOptions } from '../../../../src/targets/http/http-target.ts';
import { createNetworkAccess } from '../../../../src/targets/policy/network-access.ts';
import { startHttpSink } from '../../../helpers/http-sink.ts';
import { type ImageInProcess, openImage } from '../../../helpers/image-in-process.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { createTestAuthority, type TestAuthority } from '../../../helpers/test-authority.ts';
import { transferContext } from '../../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;

describe('http target over TLS', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let authority: TestAuthority;
  beforeEach(async () => {
    authority = await createTestAuthority(temp(''));
    opened = await openImage(await createDisk(temp('a.img'), 8 * MIB, [{ offsetBytes: 0, lengthBytes: 5 * MIB, content: 'random' }]));
  });
  afterEach(() => opened[Symbol.asyncDispose]());

  /** @returns what the server got, or the failure */
  async function send(tls: HttpTargetOptions['tls'], server: https.ServerOptions): Promise<number | DiskliftError> {
    await using sink = await startHttpSink({ tls: server });
    const target = createHttpTarget({
      url: `${sink.url}/x`,
      method: 'PUT',
      access: createNetworkAccess(),
      clock: systemClock,
      ...(tls === undefined ? {} : { tls }),
    });
    try {
      await target.send(opened.image, transferContext());
      return sink.complete.get('/x')?.length ?? 0;
    } catch (error) {
      assert.ok(error instanceof DiskliftError, String(error));
      assert.deepEqual([...sink.complete.keys()], []);
      return error;
    }
  }

  function assertFinal(result: number | DiskliftError, message: RegExp): void {
    assert.ok(result instanceof DiskliftError, `${result}`);
    assert.deepEqual([result.code, result.retryable], ['DestinationUnreachable', false], result.message);
    assert.match(result.message, message);
  }

  it('trusts the authority that it is given, and no other', async () => {
    const { certificate: cert, key } = await authority.issue('server', 'IP:127.0.0.1');
    assert.equal(await send({ ca: authority.ca }, { cert, key }), opened.image.sizeBytes);
    assertFinal(await send(undefined, { cert, key }), /authority that is not trusted/);
    mkdirSync(temp('other'));
    const other = await createTestAuthority(temp('other'));
    assertFinal(await send({ ca: other.ca }, { cert, key }), /TLS: /);
  });

  it('asks for the name of the URL, or for the one that it is given', async () => {
    const { certificate: cert, key } = await authority.issue('server', 'DNS:sink.example');
    assertFinal(await send({ ca: authority.ca }, { cert, key }), /the certificate is for another name/);
    assert.equal(await send({ ca: authority.ca, serverName: 'sink.example' }, { cert, key }), opened.image.sizeBytes);
  });

  it('shows its own certificate to a server that wants one', async () => {
    const { certificate: cert, key } = await authority.issue('server', 'IP:127.0.0.1');
    const server = { cert, key, ca: authority.ca, requestCert: true, rejectUnauthorized: true };
    const client = await authority.issue('client', 'DNS:client.example');
    assert.equal(await send({ ca: authority.ca, ...client }, server), opened.image.sizeBytes);
    const result = await send({ ca: authority.ca }, server);
    assert.ok(result instanceof DiskliftError && result.code === 'DestinationUnreachable', `${result}`);
  });
});
