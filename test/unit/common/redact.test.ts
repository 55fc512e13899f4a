import assert from 'node:assert/strict';
import { redact, redactValue } from '../../../src/common/redact.ts';

describe('redact', () => {
  for (const text of [
    'GET https://user:pl4nted@x.example/a failed',
    'https://x.example/a?X-Amz-Signature=pl4nted&b=pl4nted failed',
    '"http://x.example?sig=pl4nted", that is',
    'Authorization: Bearer pl4nted.a-b_c==',
    'authorization=pl4nted',
    'Basic cGw0bnRlZA==pl4nted',
    '{"password":"pl4nted","x":1}',
    'x-amz-security-token: pl4nted/abc',
    'Cookie: session=pl4nted',
  ])
    it(`leaves out the secret in ${text.replaceAll('pl4nted', '...')}`, () => {
      assert.ok(!redact(text).includes('pl4nted'), redact(text));
    });

  for (const text of [
    'https://x.example:8443/a/b.qcow2: answered 403: the credentials do not allow it',
    'disk.img: what is there? nobody knows',
    'the Secret backup-keys has no label disklift.dev/credentials',
    'attempt 2 failed: 10.0.0.1:9475 does not answer',
  ])
    it(`leaves alone ${text}`, () => {
      assert.equal(redact(text), text);
    });

  it('looks into values, and at names', () => {
    const value = {
      url: 'https://x/?pl4nted',
      headers: [{ authorization: 'pl4nted' }],
      error: new Error('https://x/?pl4nted'),
      secretAccessKey: 'pl4nted',
      bytes: 5,
    };
    const redacted = redactValue(value) as typeof value;
    assert.ok(!JSON.stringify(redacted).includes('pl4nted'), JSON.stringify(redacted));
    assert.equal(redacted.bytes, 5);
  });

  it('ends with a value that refers to itself', () => {
    const value: Record<string, unknown> = {};
    value.self = value;
    assert.ok(JSON.stringify(redactValue(value)).length < 100);
  });
});
