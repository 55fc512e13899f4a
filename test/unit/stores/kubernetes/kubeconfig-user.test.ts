import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { createTokenFileReader } from '../../../../src/stores/kubernetes/client/api-access.ts';
import { readKubeconfigUser } from '../../../../src/stores/kubernetes/client/kubeconfig-access.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

describe('a kubeconfig user', () => {
  const temp = useTempDir();

  function write(users: unknown, file = 'kubeconfig'): string {
    writeFileSync(temp(file), JSON.stringify({ users }));
    return temp(file);
  }

  it('resolves its files against the directory of the kubeconfig', () => {
    const file = write([{ name: 'u', user: { tokenFile: 'a/token', exec: { command: 'bin/login' } } }]);
    assert.deepEqual(readKubeconfigUser([file], 'u'), {
      impersonation: {},
      tokenFile: temp('a/token'),
      execCommand: temp('bin/login'),
    });
  });

  it('keeps absolute paths, and commands that are searched in PATH', () => {
    const file = write([{ name: 'u', user: { tokenFile: '/run/token', exec: { command: 'login' } } }]);
    assert.deepEqual(readKubeconfigUser([file], 'u'), { impersonation: {}, tokenFile: '/run/token' });
    assert.deepEqual(readKubeconfigUser([write([{ name: 'u', user: { exec: { command: '/bin/login' } } }])], 'u'), { impersonation: {} });
  });

  it('comes from the first file that has it', () => {
    const files = [
      write(undefined, 'none'),
      write([{ name: 'u', user: { 'as-groups': ['a'] } }], 'one'),
      write([{ name: 'u', user: { 'as-groups': ['b'] } }], 'two'),
    ];
    assert.deepEqual(readKubeconfigUser(files, 'u').impersonation, { 'Impersonate-Group': ['a'] });
    assert.deepEqual(readKubeconfigUser(files, 'v').impersonation, {});
  });

  it('may be empty, or have fields of unexpected types', () => {
    for (const user of [null, undefined, {}, { tokenFile: 7, 'as-groups': 'ops', 'as-uid': 1, exec: null, 'as-user-extra': { a: 'b' } }])
      assert.deepEqual(readKubeconfigUser([write([null, { name: 'u', user }])], 'u'), { impersonation: {} });
  });
});

describe('a token file', () => {
  const temp = useTempDir();
  let nowMs = 0;
  const monotonicMs = () => nowMs;

  it('is read again after a minute, and its last token stays valid when the file is gone', async () => {
    writeFileSync(temp('token'), 'one\n');
    const read = createTokenFileReader(temp('token'), monotonicMs);
    assert.equal(await read(), 'one');
    writeFileSync(temp('token'), 'two');
    nowMs += 59_000;
    assert.equal(await read(), 'one');
    nowMs += 1000;
    assert.equal(await read(), 'two');
    rmSync(temp('token'));
    nowMs += 60_000;
    assert.equal(await read(), 'two');
  });

  it('that is absent or empty gives an error before the first token', async () => {
    const read = createTokenFileReader(temp('token'), monotonicMs);
    await assert.rejects(read(), { code: 'ENOENT' });
    writeFileSync(temp('token'), '\n');
    await assert.rejects(read(), /token: the token file is empty$/);
    writeFileSync(temp('token'), 'one');
    assert.equal(await read(), 'one');
  });
});
