import assert from 'node:assert/strict';
import { isIP, type LookupFunction } from 'node:net';
import { systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import {
  createDestinationPolicy,
  createNetworkAccess,
  type DestinationRules,
  type NetworkAccess,
} from '../../../../src/network/destination-policy.ts';
import { createHttpTarget } from '../../../../src/targets/http/http-target.ts';
import { type HttpSink, startHttpSink } from '../../../helpers/http-sink.ts';
import { type ImageInProcess, openImage } from '../../../helpers/image-in-process.ts';
import { createDisk } from '../../../helpers/sparse-disk.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';
import { transferContext } from '../../../helpers/transfer-context.ts';

const MIB = 1024 * 1024;
const SECRET = 'hunter2';

/** A server on this host has the port, and must not receive a request. */
const FORBIDDEN = [
  'http://127.0.0.1:PORT/x',
  'http://2130706433:PORT/x',
  'http://0x7f000001:PORT/x',
  'http://0x7f.1:PORT/x',
  'http://0177.0.0.1:PORT/x',
  'http://017700000001:PORT/x',
  'http://127.1:PORT/x',
  'http://127.0.0.1.:PORT/x',
  'http://0:PORT/x',
  'http://localhost:PORT/x',
  'http://LocalHost.:PORT/x',
  'http://a.localhost:PORT/x',
  'http://[::1]:PORT/x',
  'http://[::ffff:127.0.0.1]:PORT/x',
  'http://[::ffff:7f00:1]:PORT/x',
  'http://[64:ff9b::127.0.0.1]:PORT/x',
  'http://[64:ff9b::a9fe:a9fe]/latest/meta-data',
  'http://[2002:7f00:1::]:PORT/x',
  `http://backup.example:${SECRET}@127.0.0.1:PORT/x`,
  `http://backup.example%40127.0.0.1:${SECRET}@127.0.0.1:PORT/x`,
  'http://１２７.０.０.１:PORT/x',
  'http://169.254.169.254/latest/meta-data',
  'https://127.0.0.1:PORT/x',
];

describe('http target and the destination policy', () => {
  const temp = useTempDir();
  let opened: ImageInProcess;
  let sink: HttpSink;
  let connections: number;
  beforeEach(async () => {
    opened = await openImage(await createDisk(temp('a.img'), 4 * MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]));
    connections = 0;
    sink = await startHttpSink({ onConnection: () => (connections += 1) });
  });
  afterEach(async () => {
    await sink[Symbol.asyncDispose]();
    await opened[Symbol.asyncDispose]();
  });

  const access = (rules: Partial<DestinationRules> = {}, resolve?: LookupFunction) =>
    createNetworkAccess(createDestinationPolicy({ allow: [], deny: [], ...rules }), resolve);

  /** @returns the failure, or undefined where the image has arrived */
  async function send(url: string, networkAccess: NetworkAccess): Promise<DiskliftError | undefined> {
    const target = createHttpTarget({
      url: url.replace('PORT', new URL(sink.url).port),
      method: 'PUT',
      headers: { Authorization: SECRET },
      access: networkAccess,
      clock: systemClock,
    });
    try {
      await target.send(opened.image, transferContext());
      return undefined;
    } catch (error) {
      assert.ok(error instanceof DiskliftError, String(error));
      assert.ok(!error.message.includes(SECRET), error.message);
      return error;
    }
  }

  function assertDenied(failure: DiskliftError | undefined): void {
    assert.deepEqual([failure?.code, failure?.retryable], ['DestinationNotAllowed', false], failure?.message);
  }

  for (const url of FORBIDDEN)
    it(`makes no connection for ${url}`, async () => {
      assertDenied(await send(url, access()));
      assert.equal(connections, 0);
    });

  for (const url of ['http://127.0.0.1:PORT\\@backup.example/x', 'http://backup.example\\@127.0.0.1:PORT/x'])
    it(`makes no connection for ${url}, which parsers read in different ways`, async () => {
      await assert.rejects(send(url, access({ allow: ['127.0.0.1', 'backup.example'] })), { code: 'InvalidRequest', retryable: false });
      assert.equal(connections, 0);
    });

  it('sends where the policy allows it', async () => {
    assert.equal(await send('http://2130706433:PORT/x', access({ allow: ['127.0.0.1'] })), undefined);
    assert.equal(sink.complete.size, 1);
  });

  /** Gives one address after the other, the last for ever. */
  function rebinding(...addresses: string[]): LookupFunction {
    return (_host, _options, callback) => {
      const address = (addresses.length > 1 ? addresses.shift() : addresses[0]) ?? assert.fail();
      callback(null, [{ address, family: isIP(address) }]);
    };
  }

  it('judges a name by the addresses that it has at each attempt', async () => {
    const rules = { allow: ['127.0.0.1'], deny: ['127.0.0.2'] };
    const rebound = access(rules, rebinding('127.0.0.1', '127.0.0.2'));
    assert.equal(await send('http://name.example:PORT/x', rebound), undefined);
    assertDenied(await send('http://name.example:PORT/x', rebound));
    assert.equal(connections, 1);
  });

  it('judges what it is connected to, and has sent nothing by then', async () => {
    const failure = await send('http://name.example:PORT/x', { ...access(), lookup: rebinding('127.0.0.1') });
    assertDenied(failure);
    assert.match(failure?.message ?? '', /name\.example \(127\.0\.0\.1\)/);
    assert.deepEqual(sink.requests, []);
  });

  for (const [location, deny] of [
    ['http://169.254.169.254/latest/meta-data', ''],
    ['http://[::ffff:169.254.169.254]/', ''],
    ['http://2852039166/', ''],
    ['//metadata.google.internal/', ''],
    ['http://name.example:PORT/x', ''],
    ['http://127.0.0.2:PORT/x', '127.0.0.2'],
  ] as const)
    it(`does not follow a redirect to ${location}`, async () => {
      await using redirecting = await startHttpSink({
        onExpect: (_request, response) => {
          response.writeHead(307, { Location: location.replace('PORT', new URL(sink.url).port) }).end();
        },
      });
      const rules = { allow: ['127.0.0.1'], deny: deny === '' ? [] : [deny] };
      assertDenied(await send(`${redirecting.url}/x?token=${SECRET}`, access(rules, rebinding('127.0.0.3'))));
      assert.equal(redirecting.requests.length, 1);
      assert.equal(connections, 0);
    });
});
