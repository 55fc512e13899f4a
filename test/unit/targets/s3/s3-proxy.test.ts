import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { createDestinationPolicy, createNetworkAccess } from '../../../../src/network/destination-policy.ts';
import { startForwardProxy } from '../../../helpers/forward-proxy.ts';
import { PART_BYTES, SECRET } from '../../../helpers/s3-export.ts';
import { useS3Rig } from '../../../helpers/s3-rig.ts';
import { createTestAuthority } from '../../../helpers/test-authority.ts';

const MIB = 1024 * 1024;

/** No resolver knows it (RFC 6761), but the proxy does. */
const HIDDEN = 's3.invalid';

describe('s3 target by a proxy', () => {
  const rig = useS3Rig();
  const hidden = () => rig.fake.url.replace('127.0.0.1', HIDDEN);

  it('names the whole URL to a proxy for http, and asks for no tunnel', async () => {
    await using proxy = await startForwardProxy({ credentials: 'user:word' });
    const httpProxy = proxy.url.replace('//', '//user:word@');
    for (const partSizeBytes of [PART_BYTES, 8 * MIB]) {
      rig.assertArrived(await rig.send({ options: { endpoint: hidden(), partSizeBytes, proxy: { httpProxy } } }));
      for (const asked of proxy.asked.splice(0)) assert.ok(asked.startsWith(`${hidden()}/images/vms/`), asked);
      assert.ok(!JSON.stringify(rig.fake.requests).includes('proxy-authorization'));
    }
    assert.equal(new Set(proxy.headers.map(({ host }) => host)).size, 1);
  });

  it('names the side whose credentials are wrong, and shows no credentials', async () => {
    await using proxy = await startForwardProxy({ credentials: 'user:word' });
    const httpProxy = proxy.url.replace('//', '//user:planted-guess@');
    const { failure } = await rig.send({ options: { endpoint: hidden(), proxy: { httpProxy } } });
    assert.deepEqual([failure?.code, failure?.retryable], ['CredentialsInvalid', false]);
    assert.match(failure?.message ?? '', /answered 407: the credentials for the proxy are missing or wrong/);
    assert.ok(!inspect(failure?.message).includes('planted-guess'));
  });

  it('refuses a proxy that is no URL before anything is sent', async () => {
    const { failure } = await rig.send({ options: { proxy: { httpProxy: 'ftp://proxy.example' } } });
    assert.equal(failure?.code, 'InvalidRequest');
  });

  it('sends through tunnels in which the proxy sees nothing', async () => {
    const authority = await createTestAuthority(rig.temp(''));
    const { certificate: cert, key } = await authority.issue('s3', `DNS:${HIDDEN}`);
    await rig.restart({ tls: { cert, key } });
    await using proxy = await startForwardProxy();
    const options = { endpoint: hidden(), tls: { ca: authority.ca }, proxy: { httpsProxy: proxy.url } };
    rig.assertArrived(await rig.send({ options }));
    assert.deepEqual([...new Set(proxy.asked)], [new URL(hidden()).host]);
    assert.ok(!JSON.stringify(proxy.headers).includes(SECRET));
  });

  it('reports the answer of the proxy, and saves no intent for an upload that cannot exist', async () => {
    await using proxy = await startForwardProxy({ tunnelStatus: 403 });
    const endpoint = hidden().replace('http:', 'https:');
    const { failure, saved } = await rig.send({ options: { endpoint, proxy: { httpsProxy: proxy.url } } });
    assert.match(failure?.message ?? '', new RegExp(`^the proxy 127\\.0\\.0\\.1:\\d+: answered 403 when asked for ${HIDDEN}:`));
    assert.deepEqual([failure?.retryable, saved.at(-1)], [false, undefined]);
  });

  it('connects directly where NO_PROXY has the host', async () => {
    await using proxy = await startForwardProxy();
    rig.assertArrived(await rig.send({ options: { proxy: { httpProxy: proxy.url, noProxy: '127.0.0.1' } } }));
    assert.deepEqual(proxy.asked, []);
  });

  it('judges the destination by the policy, and not the proxy', async () => {
    await using proxy = await startForwardProxy();
    const access = createNetworkAccess(createDestinationPolicy({ allow: [], deny: [] }));
    const options = { endpoint: 'http://169.254.169.254', access, proxy: { httpProxy: proxy.url } };
    const { failure, saved } = await rig.send({ options });
    assert.deepEqual([failure?.code, proxy.asked, saved.at(-1)], ['DestinationNotAllowed', [], undefined]);
  });
});
