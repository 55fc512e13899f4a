import assert from 'node:assert/strict';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { type ApiServerHostsOptions, findApiServerHosts } from '../../../../src/stores/kubernetes/client/api-server-hosts.ts';
import { createTestClock } from '../../../helpers/test-clock.ts';

const UNAVAILABLE = new DiskliftError('StoreUnavailable', 'the API server does not answer');
const REFUSED = new DiskliftError('StoreRefused', 'the API server refuses');

describe('hosts of the API server', () => {
  let warnings: string[];
  let stop: AbortController;
  beforeEach(() => {
    [warnings, stop] = [[], new AbortController()];
  });
  afterEach(() => stop.abort(new DiskliftError('Cancelled', 'the test has ended')));

  function find(options: Partial<ApiServerHostsOptions>): Promise<readonly string[]> {
    return findApiServerHosts({
      server: 'https://api.example:6443',
      resolve: async () => ['192.0.2.1', '2001:db8::1'],
      discovery: { serverAddresses: async () => ['10.0.0.5:6443', '[fd00::5]:6443', ''] },
      clock: createTestClock(),
      random: () => 0.5,
      signal: stop.signal,
      warn: (message) => warnings.push(message),
      ...options,
    });
  }

  it('are the name of the configuration, its addresses, and what the API server advertises', async () => {
    assert.deepEqual(await find({}), ['api.example', '192.0.2.1', '2001:db8::1', '10.0.0.5', 'fd00::5']);
    assert.deepEqual(warnings, []);
  });

  it('are not resolved where the configuration has an address', async () => {
    const resolve = () => assert.fail('resolved');
    assert.deepEqual(await find({ server: 'https://[fd00::1]:443', resolve }), ['fd00::1', '10.0.0.5', 'fd00::5']);
  });

  it('are found by another try after an outage', async () => {
    let calls = 0;
    const serverAddresses = async () => {
      calls += 1;
      if (calls < 3) throw UNAVAILABLE;
      return ['10.0.0.5:6443'];
    };
    const found = find({ discovery: { serverAddresses } });
    assert.deepEqual(await found, ['api.example', '192.0.2.1', '2001:db8::1', '10.0.0.5']);
    assert.deepEqual(warnings, []);
  });

  for (const [what, failure, tries] of [
    ['does not answer', UNAVAILABLE, 4],
    ['refuses', REFUSED, 1],
  ] as const)
    it(`are those that are known, with a warning, where the API server ${what}`, async () => {
      let calls = 0;
      const serverAddresses = async () => {
        calls += 1;
        throw failure;
      };
      const found = find({ discovery: { serverAddresses } });
      assert.deepEqual(await found, ['api.example', '192.0.2.1', '2001:db8::1']);
      assert.equal(calls, tries);
      assert.match(warnings.join(), /^not every address of the API server is known; .*denyDestination/);
    });

  it('are those that are known where the name is never resolved', async () => {
    const found = find({ resolve: () => new Promise(() => {}) });
    assert.deepEqual(await found, ['api.example', '10.0.0.5', 'fd00::5']);
    assert.match(warnings.join(), /the name api\.example was not resolved in 5 s/);
  });

  it('are no longer waited for when the process ends', async () => {
    const found = find({ discovery: { serverAddresses: async () => Promise.reject(UNAVAILABLE) } });
    stop.abort(new DiskliftError('Cancelled', 'stop'));
    assert.deepEqual(await found, ['api.example']);
    assert.deepEqual(warnings, []);
  });
});
