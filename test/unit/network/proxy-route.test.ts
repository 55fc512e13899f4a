import assert from 'node:assert/strict';
import { DiskliftError } from '../../../src/common/errors.ts';
import { proxyFor } from '../../../src/network/open-connection.ts';

const PROXY = 'http://proxy.example:3128';

describe('the way to a destination', () => {
  it('is the proxy of its scheme', () => {
    const settings = { httpsProxy: PROXY, httpProxy: 'other.example:8080' };
    assert.equal(proxyFor(new URL('https://backup.example/x'), settings)?.href, `${PROXY}/`);
    assert.equal(proxyFor(new URL('http://backup.example/x'), settings)?.href, 'http://other.example:8080/');
    assert.equal(proxyFor(new URL('http://backup.example/x'), { httpsProxy: PROXY }), undefined);
    assert.equal(proxyFor(new URL('https://backup.example/x'), { httpsProxy: ' ' }), undefined);
  });

  const rows: [noProxy: string, host: string, isExempt: boolean][] = [
    ['*', 'backup.example', true],
    ['backup.example', 'backup.example', true],
    ['backup.example', 'a.backup.example', true],
    ['backup.example', 'notbackup.example', false],
    ['.backup.example', 'backup.example', true],
    ['.backup.example', 'a.backup.example', true],
    ['a.backup.example', 'backup.example', false],
    ['Backup.EXAMPLE.', 'backup.example', true],
    ['backup.example', 'backup.example.', true],
    ['one.example, two.example', 'two.example', true],
    ['one.example two.example', 'two.example', true],
    ['one.example,,', 'three.example', false],
    ['', 'backup.example', false],
    ['192.0.2.1', '192.0.2.1', true],
    ['192.0.2.1', '192.0.2.10', false],
    ['192.0.2.0/24', '192.0.2.10', true],
    ['192.0.2.0/24', '192.0.3.10', false],
    ['192.0.2.0/33', '192.0.2.10', false],
    ['2.1', '192.0.2.1', false],
    ['[2001:db8::1]', '[2001:db8::1]', true],
    ['2001:db8::/32', '[2001:db8:1::1]', true],
    ['2001:db8::/32', '[2001:db9::1]', false],
  ];
  for (const [noProxy, host, isExempt] of rows)
    it(`is ${isExempt ? 'straight' : 'the proxy'} to ${host} with NO_PROXY=${noProxy}`, () => {
      const proxy = proxyFor(new URL(`https://${host}/`), { httpsProxy: PROXY, noProxy });
      assert.equal(proxy === undefined, isExempt);
    });

  it('is an error where the URL of the proxy is not valid, without showing it', () => {
    for (const httpsProxy of ['socks5://user:hunter2@proxy.example', 'http://user:hunter2@', 'user:hunter2@pro xy'])
      assert.throws(
        () => proxyFor(new URL('https://backup.example/?hunter2'), { httpsProxy }),
        (error) => error instanceof DiskliftError && error.code === 'InvalidRequest' && !error.message.includes('hunter2'),
      );
  });
});
