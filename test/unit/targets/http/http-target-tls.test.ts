import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import type https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { createNetworkAccess, type NetworkAccess } from '../../../../src/network/destination-policy.ts';
import { createHttpTarget, type HttpTargetOptions } from '../../../../src/targets/http/http-target.ts';
import { startFaultProxy } from '../../../helpers/fault-proxy.ts';
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

  it('trusts an intermediate authority alone, and the certificate of the server itself, as curl does', async () => {
    mkdirSync(temp('subordinate'));
    const subordinate = await authority.subordinate(temp('subordinate'));
    const { certificate, key } = await subordinate.issue('server', 'IP:127.0.0.1');
    for (const cert of [certificate, certificate + subordinate.ca])
      for (const ca of [subordinate.ca, certificate]) assert.equal(await send({ ca }, { cert, key }), opened.image.sizeBytes);
    assertFinal(await send({ ca: authority.ca }, { cert: certificate, key }), /authority that is not trusted/);
    const other = await subordinate.issue('other', 'IP:127.0.0.1');
    assertFinal(await send({ ca: other.certificate }, { cert: certificate, key }), /authority that is not trusted/);
    assertFinal(await send({ ca: certificate, serverName: 'sink.example' }, { cert: certificate, key }), /another name/);
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

  for (const direction of ['toServer', 'toClient'] as const)
    it(`may try again when a bit has flipped ${direction === 'toServer' ? 'on the way' : 'in the answer'}`, async () => {
      const { certificate: cert, key } = await authority.issue('server', 'IP:127.0.0.1');
      await using sink = await startHttpSink({ tls: { cert, key } });
      await using proxy = await startFaultProxy(Number(new URL(sink.url).port));
      const url = `https://127.0.0.1:${proxy.port}/x`;
      const target = createHttpTarget({ url, method: 'PUT', tls: { ca: authority.ca }, access: createNetworkAccess(), clock: systemClock });
      // The tail of the image and the answer follow; the first bytes of a record are not protected.
      const seal = async () => {
        proxy.expect({ kind: 'corrupt', direction, atByte: proxy.passed[direction] + (direction === 'toServer' ? MIB : 20) });
        return {};
      };
      await assert.rejects(target.send(opened.image, transferContext({ seal })), (error: DiskliftError) => {
        assert.deepEqual([error.code, error.retryable], ['DestinationUnreachable', true], error.message);
        return true;
      });
      proxy.assertAllHappened();
      assert.equal(sink.complete.has('/x'), direction === 'toClient');
    });

  it('ends in time when the server does not shake hands, or the name is never resolved, and leaves no connection', async () => {
    const silent = net.createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const url = `https://127.0.0.1:${(silent.address() as AddressInfo).port}/x`;
    const unresolved: NetworkAccess = { ...createNetworkAccess(), lookup: () => {} };
    const common = { method: 'PUT', clock: systemClock } as const;
    for (const options of [
      { ...common, url, access: createNetworkAccess() },
      { ...common, url: 'https://name.example/x', access: unresolved },
    ]) {
      const late = createHttpTarget({ ...options, limits: { connectMs: 100 } });
      await assert.rejects(late.send(opened.image, transferContext()), /no connection/);
      const cancel = new AbortController();
      setTimeout(() => cancel.abort(new DiskliftError('Cancelled', 'enough')), 100);
      const startMs = performance.now();
      await assert.rejects(createHttpTarget(options).send(opened.image, transferContext({ signal: cancel.signal })), /enough/);
      assert.ok(performance.now() - startMs < 1100);
    }
    // Waits for the connections to end.
    await new Promise((resolve) => silent.close(resolve));
  });
});
