import assert from 'node:assert/strict';
import { createDestinationPolicy, createNetworkAccess } from '../../../../src/network/destination-policy.ts';
import { storedAt } from '../../../../src/targets/http/origin.ts';

const ACCESS = createNetworkAccess(createDestinationPolicy({ allow: [], deny: ['denied.example'] }));

describe('place of a stored image', () => {
  const rows: [what: string, location: string | undefined, place: string, status?: number][] = [
    ['none named', undefined, 'https://a.example/d/x.qcow2'],
    ['a name beside the one that was asked for', '/d/x-17.qcow2', 'https://a.example/d/x-17.qcow2'],
    ['a relative one', 'x-17.qcow2', 'https://a.example/d/x-17.qcow2'],
    ['its query and its user are secrets', 'https://u:p@a.example/d/y?sig=s#f', 'https://a.example/d/y'],
    ['another host', 'https://b.example/blobs/1', 'https://b.example/blobs/1'],
    ['another port', 'https://a.example:8443/d/y', 'https://a.example:8443/d/y'],
    ['a host that the policy denies', 'https://denied.example/d/y', 'https://a.example/d/x.qcow2'],
    ['the metadata service', 'https://169.254.169.254/d/y', 'https://a.example/d/x.qcow2'],
    ['another host without TLS', 'http://b.example/d/y', 'https://a.example/d/x.qcow2'],
    ['the same host as a server behind a proxy knows it', 'http://a.example:3923/d/y', 'https://a.example/d/y'],
    ['the same path at the name that a server behind a proxy has', 'http://10.0.0.7:8080/d/x.qcow2', 'https://a.example/d/x.qcow2'],
    ['another scheme', 'file:///etc/passwd', 'https://a.example/d/x.qcow2'],
    ['no URL', 'https://[::', 'https://a.example/d/x.qcow2'],
    ['what programs read in two ways', '/d\\@b.example/y', 'https://a.example/d/x.qcow2'],
    ['a secret of the request in the path', '/t/s3cr3t/y', 'https://a.example/d/x.qcow2'],
    ['that secret, encoded', '/t/s3cr3t%2Bw/y', 'https://a.example/d/x.qcow2'],
    ['a word of the path that was asked for', '/d/z', 'https://a.example/d/z'],
    ['longer than any place', `/${'y'.repeat(5000)}`, 'https://a.example/d/x.qcow2'],
    ['of an answer that has made nothing', '/d/y', 'https://a.example/d/x.qcow2', 200],
  ];
  for (const [what, location, place, status = 201] of rows)
    it(`is ${place} for ${what}`, () => {
      const origin = {
        url: new URL('https://a.example/d/x.qcow2?token=s3cr3t'),
        headers: { Authorization: 'Bearer s3cr3t+w', 'X-Kind': 'x.qcow2' },
        tls: {},
      };
      assert.equal(storedAt({ status, headers: { location }, mayQuote: true }, origin, ACCESS), place);
    });
});
