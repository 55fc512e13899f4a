import assert from 'node:assert/strict';
import { DiskliftError } from '../../../src/common/errors.ts';
import { createDestinationPolicy, type DestinationRules } from '../../../src/network/destination-policy.ts';

/** As a request names it: what `URL` makes of a notation is what is connected to. */
const hostOf = (url: string) => new URL(url).hostname;

function verdict(
  rules: Partial<DestinationRules>,
  check: (policy: ReturnType<typeof createDestinationPolicy>) => void,
): 'allowed' | 'denied' {
  try {
    check(createDestinationPolicy({ allow: [], deny: [], ...rules }));
    return 'allowed';
  } catch (error) {
    assert.ok(error instanceof DiskliftError && error.code === 'DestinationNotAllowed', String(error));
    assert.equal(error.retryable, false);
    return 'denied';
  }
}

const DENIED = [
  'http://127.0.0.1/',
  'http://127.1/',
  'http://2130706433/',
  'http://0x7f000001/',
  'http://0177.0.0.1/',
  'http://0x7f.0.0.1/',
  'http://127.0.0.1./',
  'http://127.255.255.254/',
  'http://0.0.0.0/',
  'http://0/',
  'http://169.254.169.254/latest/meta-data',
  'http://2852039166/',
  'http://0xa9.254.0251.254/',
  'http://user:password@169.254.169.254/',
  'http://[::1]/',
  'http://[0:0:0:0:0:0:0:1]/',
  'http://[::]/',
  'http://[::ffff:127.0.0.1]/',
  'http://[::ffff:7f00:1]/',
  'http://[::127.0.0.1]/',
  'http://[::ffff:0:127.0.0.1]/',
  'http://[64:ff9b::169.254.169.254]/',
  'http://[64:ff9b::a9fe:a9fe]/',
  'http://[64:ff9b:1::a9fe:a9fe]/',
  'http://[2002:7f00:1::]/',
  'http://[2002:a9fe:a9fe::1]/',
  'http://[fe80::1]/',
  'http://[febf::1]/',
  'http://[ff02::1]/',
  'http://[fd00:ec2::254]/',
  'http://224.0.0.1/',
  'http://255.255.255.255/',
  'http://100.100.100.200/',
  'http://168.63.129.16/',
  'http://192.0.0.192/',
  'http://localhost/',
  'http://LOCALHOST./',
  'http://anything.localhost/',
  'http://metadata.google.internal/',
  'http://metadata.google.internal./',
  'http://１２７.０.０.１/',
];

const ALLOWED = [
  'http://backup.example/',
  'http://10.0.0.5/',
  'http://192.168.1.1/',
  'http://172.16.0.1/',
  'http://8.8.8.8/',
  'http://126.255.255.255/',
  'http://128.0.0.1/',
  'http://[2001:db8::1]/',
  'http://[fd00::1]/',
  'http://[::ffff:10.0.0.5]/',
  'http://[64:ff9b::808:808]/',
  'http://[2002:808:808::1]/',
  'http://[fec0::1]/',
  'http://localhost.example/',
  'http://notlocalhost/',
];

describe('destination policy', () => {
  describe('without rules', () => {
    for (const url of DENIED)
      it(`denies ${url}`, () =>
        assert.equal(
          verdict({}, (policy) => policy.checkHost(hostOf(url))),
          'denied',
        ));
    for (const url of ALLOWED)
      it(`allows ${url}`, () =>
        assert.equal(
          verdict({}, (policy) => policy.checkHost(hostOf(url))),
          'allowed',
        ));
  });

  describe('an address that a name resolves to', () => {
    for (const address of ['127.0.0.1', '169.254.169.254', '::1', '::ffff:127.0.0.1', 'fe80::1%eth0', '64:ff9b::7f00:1'])
      it(`is denied when it is ${address}`, () => {
        assert.equal(
          verdict({}, (policy) => policy.checkAddress(address, 'rebinding.example')),
          'denied',
        );
      });

    it('may be any when the name is allowed, but for those that are denied', () => {
      const rules = { allow: ['rebinding.example'], deny: ['169.254.169.254'] };
      assert.equal(
        verdict(rules, (policy) => policy.checkAddress('127.0.0.1', 'rebinding.example')),
        'allowed',
      );
      assert.equal(
        verdict(rules, (policy) => policy.checkAddress('169.254.169.254', 'rebinding.example')),
        'denied',
      );
      assert.equal(
        verdict(rules, (policy) => policy.checkAddress('::ffff:a9fe:a9fe', 'rebinding.example')),
        'denied',
      );
    });

    it('is named in the message, and so is the name', () => {
      assert.throws(
        () => createDestinationPolicy({ allow: [], deny: [] }).checkAddress('127.0.0.1', 'rebinding.example'),
        /^DiskliftError: rebinding\.example \(127\.0\.0\.1\): the destination policy does not allow it$/,
      );
    });
  });

  const rulesTable: [rules: Partial<DestinationRules>, host: string, expected: 'allowed' | 'denied'][] = [
    [{ allow: ['127.0.0.0/8'] }, '127.0.0.1', 'allowed'],
    [{ allow: ['127.0.0.0/8'] }, '[::1]', 'denied'],
    [{ allow: ['::1'] }, '[::1]', 'allowed'],
    [{ allow: ['127.0.0.1'] }, '127.0.0.2', 'denied'],
    [{ allow: ['localhost'] }, 'localhost', 'allowed'],
    [{ allow: ['*.localhost'] }, 'localhost', 'denied'],
    [{ allow: ['*.localhost'] }, 'a.b.localhost', 'allowed'],
    [{ deny: ['10.0.0.0/8'] }, '10.1.2.3', 'denied'],
    [{ deny: ['10.0.0.0/8'] }, '[::ffff:10.1.2.3]', 'denied'],
    [{ deny: ['10.0.0.0/8'] }, '[64:ff9b::a01:203]', 'denied'],
    [{ deny: ['10.0.0.0/8'] }, '11.1.2.3', 'allowed'],
    [{ deny: ['10.0.0.0/8'], allow: ['10.1.2.3'] }, '10.1.2.3', 'denied'],
    [{ deny: ['2001:db8::/32'] }, '[2001:db8:1::1]', 'denied'],
    [{ deny: ['*.example'] }, 'backup.example', 'denied'],
    [{ deny: ['*.example'] }, 'example', 'allowed'],
    [{ deny: ['Backup.Example.'] }, 'backup.example', 'denied'],
    [{ deny: ['0.0.0.0/0', '::/0'] }, '8.8.8.8', 'denied'],
  ];
  for (const [rules, host, expected] of rulesTable)
    it(`with ${JSON.stringify(rules)}: ${host} is ${expected}`, () => {
      assert.equal(
        verdict(rules, (policy) => policy.checkHost(host)),
        expected,
      );
    });

  for (const entry of [
    '',
    '10.0.0.0/33',
    '10.0.0.256',
    '10.0.0.0/8/8',
    '::1/129',
    'a b',
    'http://x',
    '*',
    '127.1',
    '10.0.0.0/-1',
    '0x7f000001',
  ])
    it(`refuses the rule ${JSON.stringify(entry)}`, () => {
      assert.throws(() => createDestinationPolicy({ allow: [entry], deny: [] }), /is not a host name, address or CIDR/);
    });
});
