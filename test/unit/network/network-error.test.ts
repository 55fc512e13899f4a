import assert from 'node:assert/strict';
import { networkError } from '../../../src/network/network-error.ts';

const failureOf = (code: string, message = 'raw words') =>
  networkError('https://a.example/x', Object.assign(new Error(message), code === '' ? {} : { code }));

describe('network error', () => {
  const rows: [code: string, reason: string][] = [
    ['ECONNREFUSED', 'connection refused'],
    ['ERR_STREAM_DESTROYED', 'the connection was closed'],
    ['ERR_STREAM_WRITE_AFTER_END', 'the connection was closed'],
    ['ERR_STREAM_PREMATURE_CLOSE', 'the connection was closed'],
    ['ERR_SOCKET_CLOSED', 'the connection was closed'],
    ['ECONNABORTED', 'the connection was closed'],
    ['HPE_INVALID_CONSTANT', 'the answer is not valid HTTP (HPE_INVALID_CONSTANT)'],
    ['HPE_HEADER_OVERFLOW', 'the answer is not valid HTTP (HPE_HEADER_OVERFLOW)'],
    ['EMFILE', 'this process has too many open files'],
    ['EADDRNOTAVAIL', 'this host has no address or port left to connect from'],
    ['EPROTONOSUPPORT', 'the connection failed (EPROTONOSUPPORT)'],
  ];
  for (const [code, reason] of rows)
    it(`describes ${code} in words, and can be retried`, () => {
      const { message, retryable } = failureOf(code);
      assert.deepEqual([message, retryable], [`https://a.example/x: ${reason}`, true]);
    });

  it('puts the words of an error without a code on one line', () => {
    assert.equal(failureOf('', 'two\n  lines').message, 'https://a.example/x: two lines');
    assert.equal(failureOf('', '').message, 'https://a.example/x: the connection failed');
  });
});
