import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { DiskliftError } from '../../../src/common/errors.ts';
import { CONTROLLER_SETTINGS } from '../../../src/config/controller-settings.ts';
import { proxyEnvironment } from '../../../src/config/environment.ts';
import { type ConfigInput, loadConfig } from '../../../src/config/load-config.ts';
import { environmentVariableOf, flagOf, SETTINGS } from '../../../src/config/settings.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

describe('configuration', () => {
  const temp = useTempDir();

  function load(input: Partial<ConfigInput>) {
    return loadConfig(SETTINGS, { flags: {}, environment: {}, ...input });
  }

  function file(text: string): string {
    writeFileSync(temp('config.yaml'), text);
    return temp('config.yaml');
  }

  it('has a default for every setting', () => {
    assert.deepEqual(load({}), Object.fromEntries(Object.entries(SETTINGS).map(([key, { default: value }]) => [key, value])));
  });

  it('has a table of settings for the controller, with defaults and refusals of its own', () => {
    const flags = { namespaces: ['a', 'b'], maxConcurrentJobsPerHost: '3' };
    const config = loadConfig(CONTROLLER_SETTINGS, {
      flags,
      environment: { DISKLIFT_WORKER_IMAGE: 'disklift:1', DISKLIFT_VOLUME: 'a=/a' },
    });
    const { namespaces, workerImage, maxConcurrentJobs, maxConcurrentJobsPerHost, leaderElectionLease } = config;
    assert.deepEqual([namespaces, workerImage, maxConcurrentJobs], [['a', 'b'], 'disklift:1', 20]);
    assert.deepEqual([maxConcurrentJobsPerHost, leaderElectionLease], [3, 'disklift-controller']);
    const refused = { environment: {}, flags: {}, file: file('volume: [a=/a]') };
    assert.throws(() => loadConfig(CONTROLLER_SETTINGS, refused), { code: 'InvalidRequest', message: /volume/ });
    for (const key of ['maxConcurrentJobs', 'maxConcurrentJobsPerNamespace', 'maxConcurrentJobsPerNode', 'podStartTimeoutSeconds'])
      assert.throws(() => loadConfig(CONTROLLER_SETTINGS, { environment: {}, flags: { [key]: '0' } }), new RegExp(key));
  });

  it('takes the file over the default, the environment over the file, and a flag over all', () => {
    const input = { file: file('maxConcurrentExports: 5\nlogLevel: warn\nlistenPort: 1\n') };
    const environment = { DISKLIFT_LOG_LEVEL: 'error', DISKLIFT_LISTEN_PORT: '2' };
    const { maxConcurrentExports, logLevel, listenPort } = load({ ...input, environment, flags: { listenPort: '3' } });
    assert.deepEqual([maxConcurrentExports, logLevel, listenPort], [5, 'error', 3]);
  });

  it('reads lists from a file, from the environment and from flags', () => {
    assert.deepEqual(load({ file: file('volume: [a=/a, b=/b]') }).volume, ['a=/a', 'b=/b']);
    assert.deepEqual(load({ environment: { DISKLIFT_VOLUME: 'a=/a, b=/b,' } }).volume, ['a=/a', 'b=/b']);
    assert.deepEqual(load({ flags: { volume: ['a=/a', 'b=/b'] } }).volume, ['a=/a', 'b=/b']);
  });

  const refusals: [string, Partial<ConfigInput> | (() => Partial<ConfigInput>), RegExp][] = [
    ['a number that is none', { flags: { maxConcurrentExports: 'many' } }, /maxConcurrentExports/],
    ['no exports at a time', { flags: { maxConcurrentExports: '0' } }, /maxConcurrentExports/],
    ['a port out of range', { environment: { DISKLIFT_LISTEN_PORT: '70000' } }, /listenPort/],
    ['a role of a worker that does not exist', { environment: { DISKLIFT_WORKER: 'live' } }, /worker/],
    ['a level that does not exist', { flags: { logLevel: 'loud' } }, /logLevel/],
    ['a setting that does not exist', () => ({ file: file('maxJobs: 3') }), /maxJobs/],
    ['a list that is none', () => ({ file: file('volume: {a: b}') }), /volume/],
    ['a file that is no settings', () => ({ file: file('- a') }), /config\.yaml: settings are expected/],
    ['a file that is no YAML', () => ({ file: file('{') }), /config\.yaml: /],
    ['a file that is not there', () => ({ file: temp('none.yaml') }), /none\.yaml: ENOENT/],
  ];
  for (const [what, input, message] of refusals)
    it(`refuses ${what}, in one line`, () => {
      assert.throws(
        () => load(typeof input === 'function' ? input() : input),
        (error) =>
          error instanceof DiskliftError && error.code === 'InvalidRequest' && message.test(error.message) && !error.message.includes('\n'),
      );
    });

  it('derives flags and variables from keys', () => {
    assert.equal(flagOf('maxConcurrentExports'), '--max-concurrent-exports');
    assert.equal(environmentVariableOf('maxConcurrentExports'), 'DISKLIFT_MAX_CONCURRENT_EXPORTS');
  });

  it('reads proxies as curl does', () => {
    assert.deepEqual(proxyEnvironment({}), {});
    assert.deepEqual(proxyEnvironment({ HTTPS_PROXY: 'a', https_proxy: 'b', HTTP_PROXY: 'evil', NO_PROXY: 'c' }), {
      httpsProxy: 'b',
      noProxy: 'c',
    });
    assert.deepEqual(proxyEnvironment({ http_proxy: 'd', https_proxy: '' }), { httpProxy: 'd' });
  });
});
